# verdict: error|killed|memory
eval("(" * 100_000)
eval("-" * 1_000_000 + "1")
