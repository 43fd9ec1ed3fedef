# verdict: error ValueError
raise ValueError("\0\ud800" * 1_000_000)
