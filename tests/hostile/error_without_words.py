# verdict: error Wordless
class Wordless(Exception):
    def __str__(self):
        raise SystemExit(0)


raise Wordless
