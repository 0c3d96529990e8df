"""Where one request ends and the next begins: the daemon before real servers, held against a reader of our own."""
