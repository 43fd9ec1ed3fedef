# verdict: disk|error|timeout|cpu
# limits: short
import os

for _ in range(3000):
    os.mkdir("d" * 100)
    os.chdir("d" * 100)
    open("file", "w").close()
