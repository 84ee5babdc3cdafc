"""Draws what `bench/compare --json FILE` measured: bench/plots.py FILE DIRECTORY."""

import json
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
# The same input gives the same files.
matplotlib.rcParams["svg.hashsalt"] = "countersign"
from matplotlib import pyplot

OURS = "countersign"
# Of an order of their own: shown in the table, they would flatten everybody else.
FAR = {"mitmproxy"}


def main(results, directory):
    peers = json.loads(pathlib.Path(results).read_text())["peers"]
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, draw in (("cpu", cpu), ("latency", latency), ("memory", memory)):
        figure, axes = pyplot.subplots(figsize=(8, 4.5))
        draw(axes, [peer for peer in peers if peer["name"] not in FAR])
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        figure.tight_layout()
        figure.savefig(directory / f"{name}.svg", metadata={"Date": None})
        pyplot.close(figure)


def cpu(axes, peers):
    peers = [peer for peer in peers if peer["h1"]]
    places = range(len(peers))
    for shift, key, label in ((-0.2, "h1", "HTTP/1.1"), (0.2, "h2", "HTTP/2")):
        bars = axes.barh(
            [place + shift for place in places], [peer[key] or 0 for peer in peers], 0.38, label=label
        )
        axes.bar_label(bars, [f"{peer[key]:.1f}" if peer[key] else "" for peer in peers], padding=3)
    axes.set_yticks(list(places), [peer["name"] for peer in peers])
    axes.invert_yaxis()
    axes.set_xlabel("CPU microseconds of the proxy a keep-alive request")


def latency(axes, peers):
    for peer in peers:
        if peer["latency"]:
            quantiles, micros = zip(*peer["latency"])
            axes.plot([1 / (1 - quantile) for quantile in quantiles], micros, **style(peer))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([2, 10, 100, 1000], ["p50", "p90", "p99", "p99.9"])
    axes.set_xlabel("requests that took no longer, one at a time")
    axes.set_ylabel("microseconds")


def memory(axes, peers):
    for peer in peers:
        if peer["memory"]:
            connections, mebibytes = zip(*peer["memory"])
            axes.plot(connections, mebibytes, marker="o", **style(peer))
    axes.set_xlabel("idle intercepted connections")
    axes.set_ylabel("resident MiB")


def style(peer):
    ours = peer["name"] == OURS
    return {"label": peer["name"], "linewidth": 2.5 if ours else 1.2, "zorder": 3 if ours else 2}


if __name__ == "__main__":
    main(*sys.argv[1:])
