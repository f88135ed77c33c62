//! What the agent does: work on the files of one folder, and of nothing beside it.
//!
//! Names are taken relative to the folder, and the system is asked in a way that follows no link out of it, however the folder
//! changes meanwhile. What is read and written is bounded.

use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Component;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use cap_std::fs::OpenOptions;

/// The most bytes of a file that are read to be said. A minute of talking, at the usual pace.
pub(super) const MAX_READ: u64 = 64 * 1024;
/// The most bytes of a file that are counted.
const MAX_COUNTED: u64 = 64 * 1024 * 1024;
/// The most bytes that are written.
const MAX_WRITTEN: usize = 64 * 1024;
/// The most files that are listed.
const MAX_LISTED: usize = 200;

/// A folder.
#[derive(Debug)]
pub(super) struct Workplace {
    dir: Dir,
}

/// Why something could not be done. What was to be changed has not changed, but for [`WorkError::Io`] while writing.
#[derive(Debug)]
pub(super) enum WorkError {
    /// The name leads out of the folder, or is none.
    Outside { path: String },
    /// It is no file.
    NotAFile { path: String },
    /// It is too large.
    TooLarge { path: String, limit: u64 },
    /// It is not text.
    NotText { path: String },
    /// The system said no.
    Io { path: String, error: io::Error },
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) words: u64,
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// It is replaced.
    Replace,
    /// A line is added.
    Append,
}

impl Workplace {
    /// Opens a folder.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { dir: Dir::open_ambient_dir(path, ambient_authority())? })
    }

    /// The text of a file.
    pub(super) fn read(&self, path: &str) -> Result<String, WorkError> {
        let mut bytes = Vec::new();
        let file = self.open_file(path, MAX_READ)?;
        // It may have grown meanwhile.
        file.take(MAX_READ + 1).read_to_end(&mut bytes).map_err(|error| failed(path, error))?;
        if bytes.len() as u64 > MAX_READ {
            return Err(WorkError::TooLarge { path: path.to_owned(), limit: MAX_READ });
        }
        String::from_utf8(bytes).map_err(|_| WorkError::NotText { path: path.to_owned() })
    }

    /// Counts what is in a file.
    pub(super) fn count(&self, path: &str) -> Result<Counted, WorkError> {
        let mut file = self.open_file(path, MAX_COUNTED)?.take(MAX_COUNTED);
        let mut buffer = vec![0; 64 * 1024];
        let (mut counted, mut is_in_word) = (Counted::default(), false);
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => return Ok(counted),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(path, error)),
            };
            for byte in &buffer[..read] {
                let was_in_word = std::mem::replace(&mut is_in_word, !byte.is_ascii_whitespace());
                counted.words += u64::from(is_in_word && !was_in_word);
                counted.lines += u64::from(*byte == b'\n');
            }
            counted.bytes += read as u64;
        }
    }

    /// Writes a file. Returns how many bytes were written.
    pub(super) fn write(&self, path: &str, text: &str, manner: Manner) -> Result<usize, WorkError> {
        if text.len() > MAX_WRITTEN {
            return Err(WorkError::TooLarge { path: path.to_owned(), limit: MAX_WRITTEN as u64 });
        }
        let path = within(path)?;
        // What is there must be a file: a pipe would have the agent wait for whoever reads it.
        match self.dir.metadata(path) {
            Ok(found) if !found.is_file() => return Err(WorkError::NotAFile { path: path.to_owned() }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(path, error)),
        }
        let mut options = OpenOptions::new();
        options.create(true);
        let text = match manner {
            Manner::Replace => {
                options.write(true).truncate(true);
                text.to_owned()
            }
            Manner::Append => {
                options.append(true);
                format!("{text}\n")
            }
        };
        let mut file = self.dir.open_with(path, &options).map_err(|error| failed(path, error))?;
        // In one call, so that two who add to a file do not mix their lines.
        file.write_all(text.as_bytes()).map_err(|error| failed(path, error))?;
        Ok(text.len())
    }

    /// The names of what is in the folder, in order, those of folders with a slash; and how many more there are than are named.
    pub(super) fn list(&self) -> Result<(Vec<String>, usize), WorkError> {
        let mut names = Vec::new();
        for entry in self.dir.entries().map_err(|error| failed(".", error))? {
            let entry = entry.map_err(|error| failed(".", error))?;
            let slash = if entry.file_type().is_ok_and(|kind| kind.is_dir()) { "/" } else { "" };
            names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
        }
        names.sort_unstable();
        let more = names.len().saturating_sub(MAX_LISTED);
        names.truncate(MAX_LISTED);
        Ok((names, more))
    }

    fn open_file(&self, path: &str, limit: u64) -> Result<cap_std::fs::File, WorkError> {
        let path = within(path)?;
        let found = self.dir.metadata(path).map_err(|error| failed(path, error))?;
        if !found.is_file() {
            return Err(WorkError::NotAFile { path: path.to_owned() });
        }
        if found.len() > limit {
            return Err(WorkError::TooLarge { path: path.to_owned(), limit });
        }
        self.dir.open(path).map_err(|error| failed(path, error))
    }
}

/// A name, where it stays within the folder by its words. That no link leads out is up to whoever opens it.
fn within(path: &str) -> Result<&str, WorkError> {
    let is_plain = |part: Component<'_>| match part {
        Component::Normal(_) | Component::CurDir => true,
        Component::Prefix(_) | Component::RootDir | Component::ParentDir => false,
    };
    let is_within = !path.is_empty() && !path.contains('\0') && Path::new(path).components().all(is_plain);
    if is_within { Ok(path) } else { Err(WorkError::Outside { path: path.to_owned() }) }
}

fn failed(path: &str, error: io::Error) -> WorkError {
    let path = path.to_owned();
    // A link that leads out is refused with an error that no system call has given.
    if error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() {
        WorkError::Outside { path }
    } else {
        WorkError::Io { path, error }
    }
}

impl std::fmt::Display for WorkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Outside { path } => write!(f, "{path:?} is not in the agent's folder"),
            Self::NotAFile { path } => write!(f, "{path} is not a file"),
            Self::TooLarge { path, limit } => write!(f, "{path} is too large: {limit} bytes are the most"),
            Self::NotText { path } => write!(f, "{path} is not text"),
            Self::Io { path, error } => write!(f, "{path}: {error}"),
        }
    }
}

impl std::error::Error for WorkError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn workplace() -> (tempfile::TempDir, Workplace) {
        let around = tempfile::tempdir().unwrap();
        let folder = around.path().join("in");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(around.path().join("secret"), "secret").unwrap();
        std::fs::write(folder.join("a.txt"), "one two\nthree\n").unwrap();
        let workplace = Workplace::open(&folder).unwrap();
        (around, workplace)
    }

    #[test]
    fn files_are_read_counted_written_and_listed() {
        let (around, workplace) = workplace();
        assert_eq!(workplace.read("a.txt").unwrap(), "one two\nthree\n");
        assert_eq!(workplace.count("./a.txt").unwrap(), Counted { words: 3, lines: 2, bytes: 14 });
        assert_eq!(workplace.write("sub/b.txt", "x", Manner::Replace).unwrap(), 1);
        assert_eq!(workplace.write("sub/b.txt", "y", Manner::Append).unwrap(), 2);
        assert_eq!(std::fs::read_to_string(around.path().join("in/sub/b.txt")).unwrap(), "xy\n");
        workplace.write("sub/b.txt", "z", Manner::Replace).unwrap();
        assert_eq!(workplace.read("sub/b.txt").unwrap(), "z");
        assert_eq!(workplace.list().unwrap(), (vec!["a.txt".to_owned(), "sub/".to_owned()], 0));
    }

    #[test]
    fn nothing_outside_of_the_folder_is_touched() {
        let (around, workplace) = workplace();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("../secret", around.path().join("in/link")).unwrap();
            std::os::unix::fs::symlink("..", around.path().join("in/up")).unwrap();
            for path in ["link", "up/secret", "up/new"] {
                assert!(matches!(workplace.read(path), Err(WorkError::Outside { .. })), "{path}");
                assert!(
                    matches!(workplace.write(path, "x", Manner::Replace), Err(WorkError::Outside { .. })),
                    "{path}"
                );
            }
        }
        let absolute = around.path().join("secret").to_str().unwrap().to_owned();
        for path in ["../secret", "sub/../../secret", "sub/../a.txt", "", &absolute, "a\0b"] {
            assert!(matches!(workplace.read(path), Err(WorkError::Outside { .. })), "{path}");
            assert!(matches!(workplace.count(path), Err(WorkError::Outside { .. })), "{path}");
            assert!(matches!(workplace.write(path, "x", Manner::Append), Err(WorkError::Outside { .. })), "{path}");
        }
        assert_eq!(std::fs::read_to_string(around.path().join("secret")).unwrap(), "secret");
        assert!(!around.path().join("new").exists());
    }

    #[test]
    fn what_is_too_large_or_no_text_or_no_file_is_said() {
        let (around, workplace) = workplace();
        std::fs::write(around.path().join("in/large"), vec![b'x'; 64 * 1024 + 1]).unwrap();
        std::fs::write(around.path().join("in/bytes"), [0xff]).unwrap();
        assert!(matches!(workplace.read("large"), Err(WorkError::TooLarge { limit: MAX_READ, .. })));
        assert_eq!(workplace.count("large").unwrap().bytes, MAX_READ + 1);
        assert!(matches!(workplace.read("bytes"), Err(WorkError::NotText { .. })));
        assert!(matches!(workplace.read("sub"), Err(WorkError::NotAFile { .. })));
        assert!(matches!(workplace.write("sub", "x", Manner::Replace), Err(WorkError::NotAFile { .. })));
        assert!(matches!(workplace.read("missing"), Err(WorkError::Io { .. })));
        let long = "x".repeat(64 * 1024 + 1);
        assert!(matches!(workplace.write("new", &long, Manner::Replace), Err(WorkError::TooLarge { .. })));
        assert!(!around.path().join("in/new").exists());
    }
}
