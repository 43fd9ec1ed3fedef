# verdict: killed
import os

os.write(3, b'{"kind": "unjailed", "detail": "let me out"}')
os._exit(70)
