"""Official split files and features of tiny classification data sets, in the published formats: for tests."""

import numpy as np

CLASSES = ("Archery", "Biking", "Diving")
PER_CLASS = 12


def ucf_names():
    """(class, stem) of every clip."""
    return [(label, f"v_{label}_g{k // 2 + 1:02d}_c{k % 2 + 1:02d}") for label in CLASSES for k in range(PER_CLASS)]


def write_ucf101(folder):
    """Three splits of three classes: split n tests every third clip."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classInd.txt").write_text("".join(f"{n} {label}\n" for n, label in enumerate(CLASSES, 1)))
    for split in (1, 2, 3):
        train, test = [], []
        for number, (label, stem) in enumerate(ucf_names()):
            path = f"{label}/{stem}.avi"
            if number % 3 == split - 1:
                test.append(f"{path}\n")
            else:
                train.append(f"{path} {CLASSES.index(label) + 1}\n")
        (folder / f"trainlist0{split}.txt").write_text("".join(train))
        (folder / f"testlist0{split}.txt").write_text("".join(test))
    return folder


def write_features(folder, names, *, width=6, noise=0.5, rows=20, seed=0):
    """`ID.npy` for every (class, id): rows around the class's center."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    centers = {label: random.normal(size=width) for label in dict.fromkeys(label for label, _ in names)}
    for label, stem in names:
        values = centers[label] + noise * random.normal(size=(rows, width))
        np.save(folder / f"{stem}.npy", values.astype(np.float32))
    return folder


def write_hmdb51(folder):
    """Three splits of two classes; every fifth clip is not used."""
    folder.mkdir(parents=True, exist_ok=True)
    for label in ("clap", "wave"):
        for split in (1, 2, 3):
            lines = [f"take #{k} {label}.avi {(0, 1, 1, 1, 2)[(k + split) % 5]} \n" for k in range(10)]
            (folder / f"{label}_test_split{split}.txt").write_text("".join(lines))
    return folder


def write_esc50(folder, *, folds=5, per_class=2):
    """`esc50.csv` of three classes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, folds + 1):
        for target, label in enumerate(("dog", "rain", "clock_tick")):
            rows += [f"{fold}-{n}{target}-A-{target}.wav,{fold},{target},{label},False,{n},A" for n in range(per_class)]
    (folder / "esc50.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_audioset(folder, *, clips=30, seed=0):
    """Segments of three labels, some clips with two, and the index of labels; (labels, id) of every clip."""
    folder.mkdir(parents=True, exist_ok=True)
    mids = {"/m/1": "Speech", "/m/2": "Male speech, man speaking", "/t/3": "Rain"}
    rows = [f'{n},{mid},"{name}"' for n, (mid, name) in enumerate(mids.items())]
    (folder / "class_labels_indices.csv").write_text("index,mid,display_name\n" + "\n".join(rows) + "\n")
    random, told = np.random.default_rng(seed), []
    for part in ("balanced_train", "eval"):
        lines = ["# Segments csv created Sun Mar  5 10:54:31 2017", "# num_ytids=3", "# YTID, start_seconds, …"]
        for number in range(clips):
            chosen = sorted(random.choice(list(mids), size=1 + number % 2, replace=False).tolist())
            id_ = f"-{part[0]}{number:03d}_xyzab"
            lines.append(f'{id_}, {number}.000, {number + 10}.000, "{",".join(chosen)}"')
            told.append((tuple(mids[mid] for mid in chosen), id_))
        (folder / f"{part}_segments.csv").write_text("\n".join(lines) + "\n")
    return told
