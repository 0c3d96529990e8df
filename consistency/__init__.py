"""The consistency checker: what the old store, the new store and the ledger say of the same events.

One word for one thing, beside those of `proxy`:

store        where a backend keeps what it was given: the old store, the new store
row          what a store holds under one identity: the event's time and its fields
identity     the text that names an event in both stores
window       a half-open span of event time; the unit of reading, judging, resuming and reporting
settle       wall-clock time after a window's end before it is judged
class        what became of one identity; see `classes`
suspect      an identity that looks like a mismatch and is to be read again
stray        a row that lies in another window than its identity belongs to
trial        what was judged since the weight was changed last
mismatch     one of the classes that count against the new side, once it is persistent
persistent   still so after it was read again some times with a back-off
rule         how the values at a path are compared; see `rules`
fingerprint  count and sums of a segment of rows: where two agree, rows need not be fetched
segment      what a fingerprint is of: one series in one step of time

    old store ---rows--+
    new store ---rows--+--> compare --suspects--> fetch again --> classes of the window --> report, trigger
    ledger ---receipts-+

Layers, each importing only what stands before it:

    config, proxy.core -> rows -> rules, classes, windows -> stores -> ...
"""
