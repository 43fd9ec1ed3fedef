"""Running programs that a model wrote: in a jail or not at all.

The parts, from the inside out: `syscalls` (which a program may make), `landlock` (which files it may see), `jail` (a process locks
itself up), `candidate` and `javascript` (what it then runs), `warden` (a process that forks one jailed child a program, watches
it and sweeps up after it), `ladder` (where wardens may run on this machine: bubblewrap, Landlock, a container), `runner`
(programs in, verdicts out).

Everything up to `warden` runs in an interpreter with the standard library and nothing else (`python -P -s -S`), so no module here
imports more than that. Nothing of this package is ever run in etude's own process but `ladder` and `runner`.
"""
