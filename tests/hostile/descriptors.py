# verdict: passed
# nothing is open but the five: null, twice the output, the report, the nonce
import os

found = []
for number in range(64):
    try:
        os.fstat(number)
        found.append(number)
    except OSError:
        pass
assert found == [0, 1, 2, 3, 4], found
