"use strict";

// The clip that is shown: its videos run together, the others' rest.
const clips = document.querySelectorAll(".clip");
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

function run(clip, playing) {
  for (const video of clip.querySelectorAll("video")) {
    if (playing) video.play().catch(() => {}); // a browser may want a click first
    else video.pause();
  }
  clip.querySelector(".play").textContent = playing ? "Pause" : "Play";
}

for (const clip of clips) {
  const compare = clip.querySelector(".compare");
  const videos = [...clip.querySelectorAll("video")];
  compare.querySelector("input").addEventListener("input", (event) => {
    compare.style.setProperty("--at", `${event.target.value}%`);
  });
  for (const choice of clip.querySelectorAll("select")) {
    const picture = compare.querySelector(`.${choice.dataset.side}`);
    const show = () => { picture.src = choice.value; };
    choice.addEventListener("change", show);
    show(); // a browser may remember a choice over a reload
  }
  clip.querySelector(".play").addEventListener("click", (event) => run(clip, event.target.textContent === "Play"));
  for (const video of videos) {
    video.addEventListener("ended", () => { // the last to end lets all begin anew, together
      if (videos.every((other) => other.ended)) run(clip, true);
    });
  }
}

for (const button of document.querySelectorAll("[data-clip]")) {
  button.addEventListener("click", () => {
    for (const clip of clips) {
      clip.hidden = clip.id !== button.dataset.clip;
      run(clip, !clip.hidden && !calm);
    }
    for (const other of document.querySelectorAll("[data-clip]")) other.setAttribute("aria-pressed", other === button);
  });
}

run(clips[0], !calm);
