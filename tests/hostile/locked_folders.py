# verdict: passed|disk
import os

os.makedirs("a/b/c")
open("a/b/c/file", "w").write("x")
os.mkdir("a/b/nobody", 0)
os.mkdir("nobody", 0)
