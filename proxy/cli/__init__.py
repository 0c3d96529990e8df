"""proxyctl: the command line.

Commands on a running instance use its admin API and nothing else, with http.client and the standard
library's json, so that they start in well under 100 ms. `demo`, `init`, `check` and `run` import what
they start when they are called. Nothing heavy is imported at the top of a module here.

    main.py        the parser and the way out: exit code, errors as text or JSON
    options.py     options that commands share, and the values they take
    endpoints.py   where the admin API is, and the token for it
    context_file.py   names for addresses, in a file
    client.py      one request over a Unix socket or TCP
    instances.py   one command on one or several instances
    output.py      text, JSON and YAML; figures for people
    waiting.py     until every worker has applied an epoch, until nothing is pending
    routing.py gradual.py status.py status_view.py records.py audit.py tokens.py local.py reload.py drain.py context.py
    completion.py completion_tables.py completion_scripts.py load.py load_route.py load_view.py own_address.py
"""
