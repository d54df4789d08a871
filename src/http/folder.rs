//! A folder of static files: served without user code, and never left.
//!
//! The kernel resolves each path beneath the folder (`RESOLVE_BENEATH`), so that neither `..` nor a link
//! leads out of it, not even one that is made while a request is on its way.

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

/// What is served for a path that ends with a slash.
const INDEX: &str = "index.html";

/// The encodings of files that were compressed beforehand, the smallest usual one first, and their endings.
const ENCODINGS: [&str; 3] = ["br", "zstd", "gzip"];

const VARY_VALUE: HeaderValue = HeaderValue::from_static("accept-encoding");

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The folder. Looked up again for each request: a release may replace it.
    pub root: PathBuf,
    /// `Cache-Control`, if it is wanted.
    pub cache_control: Option<HeaderValue>,
    /// `a.css.br`, `a.css.zst` or `a.css.gz` is served in place of `a.css` to clients that take it.
    pub precompressed: bool,
}

/// What stands at a path.
#[derive(Debug)]
enum FolderEntry {
    /// A file, in this encoding.
    File(OpenFile, Option<&'static str>),
    /// A folder with an index, whose address ends with a slash.
    Index,
    /// Nothing that is served.
    Missing,
}

impl Folder {
    /// Answers a GET or HEAD with the file that the path's parameter names.
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

    /// At once if the kernel has the way to it in memory, else on a thread that may wait for a disk.
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

/// Whether an error says no more than that no such file is there.
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

/// To the same path with a slash, which the links of an index are relative to. A relative reference is right
/// behind every proxy, and leads to no other host.
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

/// The file's path in the folder. None: it leads elsewhere, or to what is hidden, as `.git` is.
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

/// A way to open what is at a path beneath a folder.
type Open = fn(&Path, &Path) -> io::Result<File>;

/// The file at this path, or the first of those beside it in these encodings.
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
        // A kernel before 5.6, or a sandbox that does not know the call.
        Err(Errno::ENOSYS | Errno::EPERM) => resolved(root, path),
        opened => Ok(opened?),
    }
}

/// As [`beneath`], but an error where it would have to wait for a disk.
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
    // Without NONBLOCK, a pipe that lies there would hold up the thread.
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

/// The same in two steps.
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
    fn what_leads_out_or_is_hidden_has_no_path() {
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
    fn both_ways_to_open_a_file_stay_in_the_folder() {
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
