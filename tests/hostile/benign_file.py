# verdict: passed
import os
import shutil
import tempfile

with open("notes.txt", "w") as f:
    f.write("x")
shutil.copyfile("notes.txt", "copy.txt")
os.rename("copy.txt", "other.txt")
with tempfile.TemporaryDirectory() as folder, open(folder + "/x", "w") as f:
    f.write("x")
assert open("other.txt").read() == "x"
