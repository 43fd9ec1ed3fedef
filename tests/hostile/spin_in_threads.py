# verdict: cpu|timeout
# limits: short
import signal
import threading

signal.signal(signal.SIGXCPU, signal.SIG_IGN)
for _ in range(4):
    threading.Thread(target=lambda: [i for i in iter(int, 1)]).start()
