"""Typed startup settings: what a person writes in the YAML file, read once when a process starts.

Live routing (weight, copy, latch) is another type and lives in `proxy.core.routing`: it changes while
traffic flows and is never written back here.

    units, patterns       the small words: durations, sizes, addresses, names, paths
    model                 every key with its type, default and meaning
    document, environment YAML as values with their places; ${VAR}
    explain, checks       what is wrong with one key, and with keys together
    loader                file to Settings, or every error at once
    describe              the model in words, for: schema, reference
    template              the file that `proxyctl init` writes
"""
