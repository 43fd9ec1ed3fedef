"""`etude chat`: talk to a run, a model or a server; save what is worth training on.

```
voices    who answers: a model on this machine, or a server behind OpenAI's API; both give their answer in pieces
session   what was said so far, and the commands that change, show and save it
saving    accepted and edited answers as rows that the `messages` source reads; rejected ones beside them
```
"""

from __future__ import annotations

from etude.chatting.terminal import Chatting, chat

__all__ = ["Chatting", "chat"]
