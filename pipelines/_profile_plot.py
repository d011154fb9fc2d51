"""The picture of a profile."""

from typing import TYPE_CHECKING

from pipelines._pipeline_profile import PipelineProfile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of Okabe and Ito's palette (2008), which colour-blind readers can tell apart.
_OTHER, _LIMITING = "#56b4e9", "#d55e00"
_DARK, _GRID = "#444a52", "#e3e6ea"


def draw_profile(found: PipelineProfile, ax: "Axes | None") -> "Axes":
    """Draw a bar per stage, the first one on top, and return `ax`.

    A bar is the time of the stage per element of the whole pipeline, over the calls that may run
    at once; the line is the time between two elements, which no bar can exceed by much. A bar says
    nothing about what limits: calls that wait while others work cost no time of their own.
    """
    if ax is None:
        from matplotlib.figure import Figure

        height = 1.6 + 0.3 * len(found.stages)
        ax = Figure(figsize=(7.2, height), dpi=150, layout="constrained").subplots()
    limiting = None if found.bottleneck is None else found.bottleneck.stage
    times = [1e3 * s.seconds_per_output / max(s.parallelism, 1.0) for s in found.stages]
    places = range(len(times))
    colors = [_LIMITING if stage is limiting else _OTHER for stage in found.stages]
    ax.barh(places, times, color=colors, height=0.65)
    ax.set_yticks(places, [stage.label for stage in found.stages], fontsize=8)
    ax.invert_yaxis()
    interval = 1e3 / found.rate
    ax.axvline(interval, color=_DARK, lw=1.2, ls="--")
    ax.set_xlim(0.0, 1.12 * max(*times, interval))
    caption = "ms per element of the pipeline, over parallel calls; dashed: observed"
    if any(stage.parallelism > 1.0 for stage in found.stages):
        # The longest bar need not be the bottleneck, which a reader would take it for.
        caption += "\nparallel calls that only wait take no core: a long bar may limit less"
    ax.set_xlabel(caption, size=8)
    for place, stage in enumerate(found.stages):
        if stage.parallelism > 1.0:
            text = f"  {stage.parallelism:.0f} calls"
            # On a ground of its own, as the line may run through it.
            ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.0, "alpha": 0.8}
            ax.text(times[place], place, text, va="center", size=7, color=_DARK, bbox=ground)
    says = "does not know" if found.bottleneck is None else str(found.bottleneck)
    title = f"{found.rate:,.0f} elements/s\nbottleneck: {says}"
    ax.set_title(title, loc="left", fontsize=8.5, color=_DARK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color=_GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
    return ax
