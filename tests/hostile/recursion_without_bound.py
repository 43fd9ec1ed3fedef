# verdict: killed|error|memory
import sys

sys.setrecursionlimit(10**9)


def f(x):
    return eval("f(x)", {"f": f, "x": x})


f(1)
