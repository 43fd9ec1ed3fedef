# verdict: error OSError|MemoryError
import mmap

x = mmap.mmap(-1, 1 << 31)
