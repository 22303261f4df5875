"""Ranks of many embeddings in a process that may not take much memory; prints what it found as JSON.

Every query is its own true match, but some are planted: copies of a candidate, which tie with it, and queries that look
away from their true match, which come last.
"""

import json
import resource
import sys
from pathlib import Path

ROWS, WIDTH, LIMIT = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))

import torch  # noqa: E402  only now, so that the limit holds for all that it maps

from mcnlab.metrics import ranks_both_ways  # noqa: E402

x = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
expected = torch.ones(ROWS, dtype=torch.int64)
for first, copies in ((3, 1), (ROWS // 3, 2), (ROWS - 30, 4)):
    group = torch.tensor([first, *((first + 1 + (number + 1) * (ROWS // 7)) % ROWS for number in range(copies))])
    x[group] = x[first].clone()
    expected[group] = len(group)
y = x * 2  # other numbers, but exactly the same order
away = torch.tensor([11, ROWS // 2, ROWS - 1])
y[away] *= -1
expected[away] = ROWS
there, back = ranks_both_ways(x, y)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
told = {
    "wrong": [int((ranks != expected).sum()) for ranks in (there, back)],
    "planted": int((expected != 1).sum()),
    "peak_bytes": int(status["VmHWM"].split()[0]) * 1024,
    "address_space_bytes": int(status["VmPeak"].split()[0]) * 1024,
}
print(json.dumps(told))
