"""What both planes need of the network: TLS contexts that follow their files, names and their addresses."""
