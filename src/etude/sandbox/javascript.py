"""JavaScript through node: how it is started in the jail, and what it then does.

node is a program of its own, so its jail lets one thing be executed, node with its loader, and bounds its data instead of its address
space, of which V8 reserves many gigabytes without touching them.
"""

from __future__ import annotations

import os
import struct

DRIVER = r"""
(() => {
const fs = require('fs'), vm = require('vm'), util = require('util'), assert = require('assert');
const program = JSON.parse(fs.readFileSync(0, 'utf8'));
const read = fs.readSync, write = fs.writeSync, leave = process.reallyExit.bind(process), text = JSON.stringify;
const lodash = { isEqual: (a, b) => util.isDeepStrictEqual(a, b) };
const offered = { lodash, assert, util };
globalThis.require = (name) => {
  if (Object.hasOwn(offered, name)) return offered[name];
  throw new Error('no module ' + name + ' here; there are ' + Object.keys(offered).join(', '));
};
globalThis.module = { exports: {} };
globalThis.exports = globalThis.module.exports;
function tell(kind, error) {
  let said = '';
  try { said = String(error instanceof Error ? error.name + ': ' + error.message : error); } catch { said = 'an error without words'; }
  write(3, text({ kind, detail: said.slice(0, 400).split(/\s+/).join(' ') }));
  leave(0);
}
function compile(code, name, kind) {
  try { return new vm.Script(code, { filename: name }); } catch (error) { tell(kind, error); }
}
const candidate = compile(program.code, '<candidate>', 'syntax');
const checks = compile(program.tests, '<checks>', 'error');
const found = program.entry_point
  ? compile('typeof ' + program.entry_point + ' !== "undefined"', '<entry point>', 'no_entry_point') : null;
try { candidate.runInThisContext(); } catch (error) { tell('error', error); }
if (found && !found.runInThisContext()) tell('no_entry_point', 'nothing is called ' + program.entry_point);
try { checks.runInThisContext(); } catch (error) {
  const raised = error instanceof assert.AssertionError || typeof error === 'string';
  tell(raised ? 'failed' : 'error', error);
}
const nonce = Buffer.alloc(4096);
const length = read(4, nonce);
write(3, nonce, 0, length);
leave(0);
})();
"""
"""In a function of its own, for a candidate may use the same names. The program, as JSON, is on descriptor 0. A check that throws a text
(as those of the MBXP data sets do) or an AssertionError did not hold. `lodash` is no more than `isEqual`, which is all that those
checks use of it."""


def command(node: str, memory_mb: int) -> list[str]:
    """How node is started: half of its memory for the heap, no native addons, no warnings among the output."""
    return [node, f"--max-old-space-size={max(16, memory_mb // 2)}", "--no-addons", "--no-warnings", "-e", DRIVER]


def loader(path: str) -> str:
    """The program interpreter that an ELF file names (its dynamic loader), "" for a static one or another kind of file."""
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02" or len(head) < 64:
            return ""
        offset, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
        for place in range(count):
            file.seek(offset + place * size)
            kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", file.read(56))
            if kind == 3:  # PT_INTERP
                file.seek(start)
                return os.path.realpath(file.read(min(length, 4096)).split(b"\0")[0].decode())
    return ""
