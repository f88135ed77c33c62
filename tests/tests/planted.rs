//! The planted bugs: small faults in the core, kept as patches, that the simulator has to find (`.ci/planted`). Here only that
//! each still fits the sources and says what it is.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The fewest bugs that make a proof.
const ENOUGH: usize = 36;

/// The most lines that a bug takes out or puts in: beyond it nobody would make it by mistake.
const MAX_CHANGED: usize = 12;

/// What a bug may break: the invariants that are checked.
const INVARIANTS: &[&str] =
    &["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "X1", "X2", "X3", "L1", "L2", "L3", "B1", "B2", "B3", "J1", "E1"];

/// The programs that look for bugs, where the link's simulator is not the one.
const SIMULATORS: &[&str] = &["simulate_hub"];

#[test]
fn every_planted_bug_still_applies_to_the_sources() {
    let root = root();
    let broken: Vec<String> = patches()
        .into_iter()
        .filter_map(|patch| {
            let output = Command::new("git")
                .args(["apply", "--check", "-p1"])
                .arg(&patch.path)
                .current_dir(&root)
                // The sources may lie inside of a repository that is not theirs; git would pass over them in silence.
                .env("GIT_CEILING_DIRECTORIES", root.parent().unwrap_or(&root))
                .output()
                .expect("git is installed");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (!output.status.success()).then(|| format!("{}: {said}", patch.name))
        })
        .collect();
    assert!(broken.is_empty(), "no longer apply:\n{}", broken.join("\n"));
}

#[test]
fn every_planted_bug_says_what_it_is_and_what_it_breaks() {
    for patch in patches() {
        let mut lines = patch.text.lines();
        let what = lines.next().and_then(|line| line.strip_prefix("What: "));
        assert!(what.is_some_and(|what| what.ends_with('.')), "{}: the first line says what it is", patch.name);
        let breaks = lines.next().and_then(|line| line.strip_prefix("Breaks: "));
        let breaks = breaks.unwrap_or_else(|| panic!("{}: the second line says what it breaks", patch.name));
        for broken in breaks.split(", ") {
            assert!(INVARIANTS.contains(&broken), "{}: {broken} is no invariant", patch.name);
        }
        if let Some(simulator) = lines.next().and_then(|line| line.strip_prefix("Found by: ")) {
            assert!(SIMULATORS.contains(&simulator), "{}: {simulator} is no simulator", patch.name);
        }
    }
}

#[test]
fn every_planted_bug_is_a_small_one_in_the_core() {
    for patch in patches() {
        let is_header = |line: &&str| line.starts_with("--- ") || line.starts_with("+++ ");
        for header in patch.text.lines().filter(is_header) {
            let is_in_core = header[4..].get(1..).is_some_and(|path| path.starts_with("/core/src/"));
            assert!(is_in_core, "{}: {header} is not in the core", patch.name);
        }
        let is_changed = |line: &&str| line.starts_with(['-', '+']) && !is_header(line);
        let changed = patch.text.lines().filter(is_changed).count();
        assert!((1..=MAX_CHANGED).contains(&changed), "{}: {changed} lines change", patch.name);
    }
}

#[test]
fn there_are_enough_planted_bugs_and_a_canary() {
    let names: Vec<String> = patches().into_iter().map(|patch| patch.name).collect();
    assert!(names.iter().any(|name| name == "canary"), "there is no canary");
    let mut numbered = Vec::new();
    for name in names.iter().filter(|name| *name != "canary") {
        let number = name.split_once('-').and_then(|(number, _)| number.parse::<usize>().ok());
        numbered.push(number.unwrap_or_else(|| panic!("{name} has no number")));
    }
    assert!(numbered.len() >= ENOUGH, "{} are not enough", numbered.len());
    assert!(numbered.iter().copied().eq(1..=numbered.len()), "the numbers go from 1 without a gap: {numbered:?}");
}

/// One patch.
struct Patch {
    name: String,
    path: PathBuf,
    text: String,
}

/// All patches, by name.
fn patches() -> Vec<Patch> {
    let folder = root().join("tests/planted");
    let entries = fs::read_dir(&folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    let mut patches: Vec<Patch> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .map(|path| Patch {
            name: path.file_stem().expect("a patch has a name").to_string_lossy().into_owned(),
            text: fs::read_to_string(&path).expect("a patch is text"),
            path,
        })
        .collect();
    patches.sort_by(|one, other| one.name.cmp(&other.name));
    patches
}

/// The root of the repository.
fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests lie in the repository").to_path_buf()
}
