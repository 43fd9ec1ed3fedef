# verdict: error OSError
f = open("big", "wb")
while True:
    f.write(b"0" * 65536)
