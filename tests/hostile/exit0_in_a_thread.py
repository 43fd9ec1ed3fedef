# verdict: exited
# checks: import time; time.sleep(30)
import os
import threading

threading.Thread(target=os._exit, args=(0,)).start()
