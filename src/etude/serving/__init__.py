"""`etude serve`: a tuned model behind OpenAI's API.

```
requests     what may be asked, checked strictly     asking      -> prompts in the model's own format, within limits
guarding     who may ask: Host, Origin, token, size  endpoint    which path does what; streams; clients that leave
replies      OpenAI's shapes of answers              failing     and of refusals
running      the socket, the signals, the two threads: one speaks HTTP, one steps the engine (`models.batching`)
```
"""

from __future__ import annotations

from etude.serving.running import Serving, serve

__all__ = ["Serving", "serve"]
