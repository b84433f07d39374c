//! Files that reports are written to: what stood there before stays until the report is complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;

/// Where a report goes.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    /// Of what is no ordinary file, such as a pipe, and is not replaced but written to.
    special: Option<File>,
}

impl Output {
    /// Sees that a file can be made at `path`, or replaced, and leaves all as it is.
    ///
    /// # Errors
    /// Those of making it, with the path.
    pub fn prepare(path: &Path) -> io::Result<Self> {
        Self::prepare_at(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    fn prepare_at(path: &Path) -> io::Result<Self> {
        // Through links: what they lead to is replaced, not they.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let mut special = None;
        if path.exists() {
            let file = OpenOptions::new().write(true).open(&path)?;
            special = Some(file).filter(|file| file.metadata().is_ok_and(|found| !found.is_file()));
        }
        let output = Output { path, special };
        if output.special.is_none() {
            File::create(output.beside())?;
            fs::remove_file(output.beside())?;
        }
        Ok(output)
    }

    /// Lets `write` write all of it, under another name, and puts it in its place.
    ///
    /// # Errors
    /// Those of `write`, and of making the file.
    pub fn write(self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
        let beside = self.beside();
        let is_special = self.special.is_some();
        let mut file = BufWriter::new(self.special.map_or_else(|| File::create(&beside), Ok)?);
        let written = write(&mut file).and_then(|()| file.flush());
        match is_special {
            true => written,
            false => written.and_then(|()| fs::rename(&beside, &self.path)),
        }
    }

    /// A name in the same folder that nobody else uses.
    fn beside(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.part", process::id()));
        self.path.with_file_name(name)
    }
}
