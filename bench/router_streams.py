"""Big bodies, down and up: through the router, direct to the runtime, and through nginx, in turn."""

from __future__ import annotations

import asyncio
from statistics import median

from bench.figures import cpu_seconds
from bench.stage import NGINX_MISSING, Stage, generate

SIZE = 256 << 20
CODE = """
const piece = Buffer.alloc(65536, 'x');
exports.index = (req, res) => {
  if (req.method === 'POST') {
    let got = 0;
    req.on('data', (data) => { got += data.length; });
    req.on('end', () => res.send(String(got)));
    return;
  }
  let left = Number(req.query.bytes ?? 0);
  res.setHeader('Content-Length', left);
  const write = () => {
    while (left > 0) {
      const next = left < piece.length ? piece.subarray(0, left) : piece;
      left -= next.length;
      if (!res.write(next)) return res.once('drain', write);
    }
    res.end();
  };
  write();
};
exports.config = { bodyParser: false };
"""

Found = dict[str, list[tuple[float, float]]]


async def measure(rounds: int, size: int) -> tuple[Found, Found]:
    """Seconds, and CPU seconds of what stands at the address, for each way: down and up."""
    down: Found = {}
    up: Found = {}
    async with Stage(CODE) as stage:
        router, nginx = await stage.router(), await stage.nginx()
        for _ in range(rounds):
            for found, upload in ((down, False), (up, True)):
                for way in (stage.direct, router, nginx):
                    if way is None:
                        continue
                    before = cpu_seconds(way.pid)
                    figures = await generate(
                        "stream",
                        address=way.address,
                        headers=way.headers,
                        upload=upload,
                        size=size,
                    )
                    cpu = cpu_seconds(way.pid) - before
                    found.setdefault(way.name, []).append((figures["seconds"], cpu))
    return down, up


def report(*, quick: bool) -> None:
    """Runs and prints it."""
    size = SIZE // 16 if quick else SIZE
    for title, found in zip(
        ("Download", "Upload"), asyncio.run(measure(1 if quick else 5, size)), strict=True
    ):
        print(f"{title} of {size >> 20} MB, one at a time")
        for name, rounds in found.items():
            rate = median(size / seconds / 1e6 for seconds, _ in rounds)
            pairs = zip(rounds, found["direct"], strict=True)
            ratio = median(direct / seconds for (seconds, _), (direct, _) in pairs)
            line = f"  {name}: {rate:.0f} MB/s"
            if name != "direct":
                cpu = median(used / size * 1e9 for _, used in rounds)
                line += f", {ratio:.0%} of direct; its CPU {cpu:.2f} s per GB"
            print(line)
        if "nginx" not in found:
            print(f"  nginx: {NGINX_MISSING}")
