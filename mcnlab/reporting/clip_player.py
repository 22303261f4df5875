"""A player for the web page: frames with a heat map over them, boxes, sound, and the attention over time as a strip."""

import html
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from mcnlab.parquet import read_parquet
from mcnlab.reporting.addresses import picture_address, sound_address
from mcnlab.runs import RunFolder

HEAT_FILE = "heat.parquet"
"""Beside the results of a run: some recordings with their heat maps."""
CLEAR = 0.5
"""At this share of the way from its least to its largest value a heat map is clear: below it darkens, above it reddens,
so that it can be seen on things of any color."""
RED, DARK = (214, 32, 32), (10, 12, 18)
REDDEST, DARKEST = 170, 150
"""Opacity at both ends, of 255."""


def recordings_with_heat(run: RunFolder) -> list[dict[str, Any]]:
    """The recordings that an evaluated run has kept for the player.

    Args:
        run: any.

    Returns:
        Plain values of each; none where the task localization was not measured.
    """
    path = Path(run.path) / HEAT_FILE
    return read_parquet(path).to_dict("records") if path.exists() else []


def player(recording: Mapping[str, Any], *, title: str = "") -> str:
    """The player of one recording, as a part of a page that needs nothing else.

    Args:
        recording: as `recordings_with_heat` gives it.
        title: what stands above.

    Returns:
        HTML with its own style and script. Without scripts it shows the first frame, and a table of all peaks.
    """
    maps = [square(one) for one in recording["heat"]]
    low, high = min(float(one.min()) for one in maps), max(float(one.max()) for one in maps)
    usual = float(np.median(np.stack(maps)))
    facts: dict[str, Any] = {
        "times": [float(one) for one in recording["times_s"]],
        "shown": float(recording["shown_s"]),
        "pictures": [picture_address(one) for one in recording["pictures"]],
        "heat": [picture_address(overlay(one, low=low, high=high)) for one in maps],
        "peaks": [(float(one.max()) - usual) / max(high - usual, 1e-9) for one in maps],
        "boxes": [_boxes(one) for one in recording["boxes"]],
    }
    heard = sound_address(recording.get("wav"))
    sound = f'<audio controls preload="metadata" src="{heard}"></audio>' if heard else ""
    name = html.escape(title or str(recording["recording"]))
    rows = "".join(
        f"<tr><td>{time:.2f} s</td><td>{float(one.max()):.3f}</td></tr>"
        for time, one in zip(facts["times"], maps, strict=True)
    )
    return (
        f'<figure class="mc-player" data-clip="{html.escape(json.dumps(facts))}">{_STYLE}'
        f"<figcaption>{name}</figcaption>"
        f'<div class="mc-screen"><img class="mc-picture" alt="frame of {name}" src="{facts["pictures"][0]}">'
        f'<img class="mc-heat" alt="" src="{facts["heat"][0]}"><svg viewBox="0 0 100 100" '
        f'preserveAspectRatio="none"></svg></div><div class="mc-controls"><button type="button">Play</button>{sound}'
        '<label><input type="checkbox" checked> heat map</label></div>'
        '<div class="mc-strip" role="slider" tabindex="0" aria-label="time" aria-valuemin="0" '
        f'aria-valuemax="{len(maps) - 1}" aria-valuenow="0"></div>'
        f"<details><summary>Largest cosine of every frame</summary><table>{rows}</table></details></figure>"
        f"<script>{SCRIPT}</script>"
    )


def square(values: Iterable[Any]) -> Float[np.ndarray, "height width"]:
    """A map of what Parquet gives as rows of rows."""
    return np.stack([np.asarray(line, dtype=np.float64) for line in values])


def overlay(heat: Float[np.ndarray, "height width"], *, low: float, high: float, size_px: int = 168) -> bytes:
    """A heat map as a veil over a frame: dark where it is low, clear in the middle, red where it is high.

    Args:
        heat: any values.
        low: value of the deepest dark.
        high: value of the deepest red.
        size_px: height and width of the result.

    Returns:
        A PNG with transparency.
    """
    part = np.clip((heat - low) / max(high - low, 1e-9), 0, 1).astype(np.float32)
    wide = np.asarray(Image.fromarray(part, mode="F").resize((size_px, size_px), Image.Resampling.BILINEAR))
    above = np.clip((wide - CLEAR) / (1 - CLEAR), 0, 1)
    below = np.clip((CLEAR - wide) / CLEAR, 0, 1)
    pixels = np.zeros((size_px, size_px, 4), np.uint8)
    pixels[..., :3] = np.where((above > 0)[..., None], RED, DARK)
    pixels[..., 3] = np.round(above * REDDEST + below * DARKEST)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _boxes(boxes: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """Left, top, width, height in percent, label, whether it sounds."""
    return [
        [
            round(100 * float(one["left"]), 2),
            round(100 * float(one["top"]), 2),
            round(100 * float(one["right"] - one["left"]), 2),
            round(100 * float(one["bottom"] - one["top"]), 2),
            str(one["label"] or ""),
            bool(one["sounding"]),
        ]
        for one in boxes
    ]


_STYLE = """<style>
.mc-player{display:inline-block;width:340px;margin:8px 14px 14px 0;vertical-align:top;
 font:14px/1.4 system-ui,sans-serif}
.mc-player figcaption{font-weight:600;margin-bottom:6px}
.mc-screen{position:relative;width:336px;height:336px;background:#e8e8ea;border-radius:6px;overflow:hidden}
.mc-screen img,.mc-screen svg{position:absolute;inset:0;width:100%;height:100%;margin:0;max-width:none}
.mc-picture{image-rendering:pixelated}
.mc-controls{display:flex;gap:8px;align-items:center;margin:8px 0;flex-wrap:wrap}
.mc-controls audio{height:30px;width:100%}
.mc-controls button{padding:4px 14px;border:1px solid #b5b5bb;border-radius:5px;background:transparent;
 color:inherit;cursor:pointer}
.mc-strip{display:flex;gap:1px;height:34px;align-items:flex-end;cursor:pointer;background:#f1f1f3;border-radius:4px;
 margin-bottom:10px}
.mc-strip span{flex:1;background:#d62020;opacity:.45;min-height:2px}
.mc-strip span.now{opacity:1}
.mc-strip span.heard{box-shadow:0 3px 0 #0091b3}
</style>"""

SCRIPT = """(function(){
document.querySelectorAll('figure.mc-player:not([data-on])').forEach(function(figure){
figure.dataset.on='1';
var clip=JSON.parse(figure.dataset.clip),strip=figure.querySelector('.mc-strip');
var picture=figure.querySelector('.mc-picture'),heat=figure.querySelector('.mc-heat'),svg=figure.querySelector('svg');
var audio=figure.querySelector('audio'),button=figure.querySelector('button'),now=-1,timer=null,space=svg.namespaceURI;
clip.peaks.forEach(function(peak,n){var bar=document.createElement('span');bar.style.height=(6+94*peak)+'%';
 bar.title=clip.times[n].toFixed(2)+' s';
 if(clip.boxes[n].some(function(b){return b[5]}))bar.className='heard';
 bar.addEventListener('click',function(){jump(n)});strip.appendChild(bar)});
function draw(n){if(n===now)return;now=n;picture.src=clip.pictures[n];heat.src=clip.heat[n];
 Array.prototype.forEach.call(strip.children,function(bar,k){bar.classList.toggle('now',k===n)});
 strip.setAttribute('aria-valuenow',n);svg.textContent='';
 clip.boxes[n].forEach(function(b){[['#14161a',3.4],[b[5]?'#00d0ee':'#ffffff',1.8]].forEach(function(look){
  var box=document.createElementNS(space,'rect');
  ['x','y','width','height'].forEach(function(side,k){box.setAttribute(side,b[k])});
  box.setAttribute('fill','none');box.setAttribute('stroke',look[0]);box.setAttribute('stroke-width',look[1]);
  box.setAttribute('vector-effect','non-scaling-stroke');
  var said=document.createElementNS(space,'title');said.textContent=b[4]+(b[5]?' (sounds)':' (silent)');
  box.appendChild(said);svg.appendChild(box)})})}
function at(time){var best=0;clip.times.forEach(function(t,n){if(t-clip.shown/2<=time+1e-6)best=n});return best}
function jump(n){draw(n);if(audio)audio.currentTime=Math.max(0,clip.times[n]-clip.shown/2)}
function stop(){clearInterval(timer);timer=null;button.textContent='Play';if(audio)audio.pause()}
function play(){button.textContent='Pause';var silent=!audio,start=performance.now()-clip.times[Math.max(now,0)]*1000;
 if(audio)audio.play().catch(function(){silent=true});
 timer=setInterval(function(){var time=silent?(performance.now()-start)/1000:audio.currentTime;draw(at(time));
 if(audio?audio.ended:time>clip.times[clip.times.length-1]+clip.shown){stop();draw(0)}},60)}
button.addEventListener('click',function(){timer?stop():play()});
if(audio)audio.addEventListener('timeupdate',function(){if(!timer)draw(at(audio.currentTime))});
figure.querySelector('input').addEventListener('change',function(){heat.style.display=this.checked?'':'none'});
strip.addEventListener('keydown',function(e){var step={ArrowRight:1,ArrowLeft:-1}[e.key];
 if(step)jump(Math.min(clip.times.length-1,Math.max(0,now+step)))});
draw(0)})})()"""
"""What runs in a page with players; a page that allows scripts by their hash has to name it."""
