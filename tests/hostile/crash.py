# verdict: killed SIGSEGV|SIGBUS
import ctypes

ctypes.string_at(0)
