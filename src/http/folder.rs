//! The folder of static files that is served without user code.
//!
//! The kernel resolves each path beneath the folder (`RESOLVE_BENEATH`). So neither `..` nor a link leads out of
//! it, not even a link that is created during the request.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use actix_http::header::{self, HeaderValue};
use actix_web::http::StatusCode;
#[cfg(target_os = "linux")]
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use tokio::task::spawn_blocking;

use super::compression::Compression;
use super::encoding;
use super::file_response::{OpenFile, content_type};
use super::path::Value;
use super::request::WireRequest;
use super::response::{Response, WireResponse};

/// The file that is served for a path that ends with a slash.
const INDEX: &str = "index.html";

/// The codings of precompressed files: usually the smallest first.
const ENCODINGS: [&str; 3] = ["br", "zstd", "gzip"];

const VARY_VALUE: HeaderValue = HeaderValue::from_static("accept-encoding");

/// A folder of static files.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The folder. It is opened again for each request, because a release may replace it.
    pub root: PathBuf,
    /// `Cache-Control`, if the application sets it.
    pub cache_control: Option<HeaderValue>,
    /// `a.css.br`, `a.css.zst` or `a.css.gz` is served instead of `a.css` to clients that accept it.
    pub precompressed: bool,
}

/// The entry at a path.
#[derive(Debug)]
enum FolderEntry {
    /// A file, in this coding.
    File(OpenFile, Option<&'static str>),
    /// A folder with an index. Its URL ends with a slash.
    Index,
    /// No entry that may be served.
    Missing,
}

impl Folder {
    /// Responds to a GET or HEAD with the file that the path parameter names.
    pub(super) async fn respond(
        &self,
        value: Option<&Value>,
        request: &WireRequest,
        compression: Option<&Compression>,
    ) -> WireResponse {
        let name = match value {
            Some(Value::Str(name)) => name.as_str(),
            _ => "",
        };
        let Some(path) = visible(name) else {
            return not_found(request);
        };
        let kind = content_type(&path);
        match self.find(path, request).await {
            Ok(FolderEntry::File(file, encoding)) => {
                let mut head = Response::empty(StatusCode::OK);
                head.content_type = Some(kind);
                if let Some(encoding) = encoding {
                    head.append(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
                }
                if self.precompressed {
                    head.append(header::VARY, VARY_VALUE);
                }
                if let Some(value) = &self.cache_control {
                    head.append(header::CACHE_CONTROL, value.clone());
                }
                file.respond(head, request, compression).await
            }
            Ok(FolderEntry::Index) => to_index(request),
            Ok(FolderEntry::Missing) => not_found(request),
            Err(error) => {
                if !is_absence(&error) {
                    log::error!("{}: cannot open the file: {error}", request.head.path());
                }
                not_found(request)
            }
        }
    }

    /// Finds the file: on this thread if the kernel has the path in memory, else on a thread that may wait for a
    /// disk.
    async fn find(&self, path: PathBuf, request: &WireRequest) -> io::Result<FolderEntry> {
        let encodings = if self.precompressed {
            encoding::accepted(&request.head, &ENCODINGS)
        } else {
            Vec::new()
        };
        if let Ok(found) = find(&self.root, &path, &encodings, in_memory) {
            return Ok(found);
        }
        let root = self.root.clone();
        let found = spawn_blocking(move || find(&root, &path, &encodings, beneath)).await;
        found.map_err(io::Error::other).flatten()
    }
}

/// Whether the error means that the file does not exist.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::CrossesDevices // it would have left the folder
    ) || error.raw_os_error() == Some(libc::ELOOP)
}

/// Redirects to the same path with a slash, because the links of an index are relative to it. A relative redirect
/// is correct behind every proxy, and cannot lead to another host.
fn to_index(request: &WireRequest) -> WireResponse {
    let path = request.head.path();
    let name = path.rsplit('/').next().unwrap_or_default();
    let query = &request.head.target()[path.len()..];
    match HeaderValue::try_from(format!("./{name}/{query}")) {
        Ok(location) => {
            let sentence = format!("This is served at {path}/");
            Response::sentence(StatusCode::TEMPORARY_REDIRECT, sentence)
                .with_header(header::LOCATION, location)
        }
        Err(_) => not_found(request),
    }
}

fn not_found(request: &WireRequest) -> WireResponse {
    let sentence = format!("Nothing is served at {}", request.head.path());
    Response::sentence(StatusCode::NOT_FOUND, sentence)
}

/// The path of the file within the folder. None: it leads elsewhere, or to a hidden file such as `.git`.
fn visible(name: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        let Component::Normal(segment) = component else {
            return None;
        };
        let text = segment.to_str()?;
        if text.contains('\0') || (text.starts_with('.') && text != ".well-known") {
            return None;
        }
        path.push(segment);
    }
    if name.is_empty() || name.ends_with('/') {
        path.push(INDEX);
    }
    Some(path)
}

/// A function that opens a path beneath a folder.
type Open = fn(&Path, &Path) -> io::Result<File>;

/// Finds the file at this path, or the first precompressed variant with one of these codings.
fn find(
    root: &Path,
    path: &Path,
    encodings: &[&'static str],
    open: Open,
) -> io::Result<FolderEntry> {
    for encoding in encodings {
        let mut beside = path.as_os_str().to_owned();
        beside.push(ending(encoding));
        match open(root, beside.as_ref()).and_then(OpenFile::new) {
            Ok(Some(file)) => return Ok(FolderEntry::File(file, Some(encoding))),
            Ok(None) => {}
            Err(error) if is_absence(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let file = open(root, path)?;
    if file.metadata()?.is_dir() {
        let index = open(root, &path.join(INDEX)).and_then(OpenFile::new)?;
        return Ok(index.map_or(FolderEntry::Missing, |_| FolderEntry::Index));
    }
    let file = OpenFile::new(file)?;
    Ok(file.map_or(FolderEntry::Missing, |file| FolderEntry::File(file, None)))
}

fn ending(encoding: &str) -> &'static str {
    match encoding {
        "br" => ".br",
        "zstd" => ".zst",
        _ => ".gz",
    }
}

#[cfg(target_os = "linux")]
fn beneath(root: &Path, path: &Path) -> io::Result<File> {
    use nix::errno::Errno;

    match open_at(&File::open(root)?, path, ResolveFlag::empty()) {
        // The kernel is older than 5.6, or a sandbox blocks the call.
        Err(Errno::ENOSYS | Errno::EPERM) => resolved(root, path),
        opened => Ok(opened?),
    }
}

/// Opens as [`beneath`] does, but returns an error if the kernel must wait for a disk.
#[cfg(target_os = "linux")]
fn in_memory(root: &Path, path: &Path) -> io::Result<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(CACHED);
    let root: File = openat2(AT_FDCWD, root, how)?.into();
    Ok(open_at(&root, path, CACHED)?)
}

#[cfg(target_os = "linux")]
const CACHED: ResolveFlag = ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED);

#[cfg(target_os = "linux")]
fn open_at(root: &File, path: &Path, how: ResolveFlag) -> nix::Result<File> {
    // Without NONBLOCK, opening a named pipe would block the thread.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS | how;
    openat2(root, path, OpenHow::new().flags(flags).resolve(resolve)).map(File::from)
}

#[cfg(not(target_os = "linux"))]
fn in_memory(_: &Path, _: &Path) -> io::Result<File> {
    Err(io::ErrorKind::WouldBlock.into())
}

#[cfg(not(target_os = "linux"))]
use resolved as beneath;

/// Opens a path beneath a folder without `openat2`, in two steps.
fn resolved(root: &Path, path: &Path) -> io::Result<File> {
    let root = root.canonicalize()?;
    let target = root.join(path).canonicalize()?;
    if !target.starts_with(&root) || !target.metadata()?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    File::open(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_and_hidden_names_have_no_path() {
        for name in [
            "../x",
            "a/../../x",
            "/etc/passwd",
            ".git/config",
            "a/.env",
            ".",
        ] {
            assert_eq!(visible(name), None, "{name}");
        }
        for (name, path) in [
            ("", "index.html"),
            ("a/", "a/index.html"),
            ("a/b.txt", "a/b.txt"),
            (".well-known/x", ".well-known/x"),
        ] {
            assert_eq!(visible(name), Some(PathBuf::from(path)));
        }
    }

    #[test]
    fn both_functions_that_open_a_file_stay_in_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, outside) = (folder.path().join("root"), folder.path().join("secret"));
        std::fs::create_dir_all(root.join("in")).expect("a folder");
        std::fs::write(&outside, "secret").expect("a file");
        std::fs::write(root.join("in/file"), "public").expect("a file");
        let link = |to: &Path, name: &str| {
            std::os::unix::fs::symlink(to, root.join(name)).expect("a link");
        };
        link(Path::new("in/file"), "inside");
        link(Path::new("../secret"), "outside");
        link(&outside, "absolute");
        for way in [beneath, resolved] {
            for good in ["in/file", "inside"] {
                let mut text = String::new();
                let mut file = way(&root, good.as_ref()).expect(good);
                io::Read::read_to_string(&mut file, &mut text).expect("it is text");
                assert_eq!(text, "public");
            }
            for bad in ["outside", "absolute", "../secret", "nothing"] {
                way(&root, bad.as_ref()).expect_err(bad);
            }
        }
    }
}
