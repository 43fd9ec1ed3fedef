# verdict: exited
# checks: f()
def f():
    raise SystemExit(0)
