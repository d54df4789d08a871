//! A folder of static files: served without user code, and never left.
//!
//! The kernel resolves each path beneath the folder (`RESOLVE_BENEATH`), so that neither `..` nor a link
//! leads out of it, not even one that is made while a request is on its way.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use actix_files::NamedFile;
use actix_http::header::{self, HeaderValue};
use actix_web::http::StatusCode;
use tokio::task::spawn_blocking;

use super::path::Value;
use super::request::WireRequest;
use super::response::{Response, WireResponse};
use super::sending;

/// What is served for a path that ends with a slash.
const INDEX: &str = "index.html";

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The folder. Looked up again for each request: a release may replace it.
    pub root: PathBuf,
    /// `Cache-Control`, if it is wanted.
    pub cache_control: Option<HeaderValue>,
}

impl Folder {
    /// Answers a GET or HEAD with the file that the path's parameter names.
    pub(super) async fn answer(
        &self,
        value: Option<&Value>,
        request: &WireRequest,
    ) -> WireResponse {
        let asked = match value {
            Some(Value::Str(asked)) => asked.as_str(),
            _ => "",
        };
        let Some(path) = visible(asked) else {
            return not_found(request);
        };
        let root = self.root.clone();
        let opened = spawn_blocking(move || open(&root, &path)).await;
        match opened.map_err(io::Error::other).flatten() {
            Ok(Some(file)) => {
                let mut response = sending::named(file, None, request);
                if let Some(value) = &self.cache_control {
                    response.insert(header::CACHE_CONTROL, value.clone());
                }
                response
            }
            Ok(None) => not_found(request),
            Err(error) => {
                let is_absent = matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::InvalidInput
                        | io::ErrorKind::InvalidFilename
                        | io::ErrorKind::CrossesDevices // it would have left the folder
                ) || error.raw_os_error() == Some(libc::ELOOP);
                if !is_absent {
                    log::error!("{}: cannot open the file: {error}", request.head.path());
                }
                not_found(request)
            }
        }
    }
}

fn not_found(request: &WireRequest) -> WireResponse {
    let sentence = format!("Nothing is served at {}", request.head.path());
    Response::sentence(StatusCode::NOT_FOUND, sentence)
}

/// The file's path in the folder. None: it leads elsewhere, or to what is hidden, as `.git` is.
fn visible(asked: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(asked).components() {
        let Component::Normal(name) = component else {
            return None;
        };
        let text = name.to_str()?;
        if text.contains('\0') || (text.starts_with('.') && text != ".well-known") {
            return None;
        }
        path.push(name);
    }
    if asked.is_empty() || asked.ends_with('/') {
        path.push(INDEX);
    }
    Some(path)
}

/// The file, if it is one.
fn open(root: &Path, path: &Path) -> io::Result<Option<NamedFile>> {
    let file = beneath(root, path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    NamedFile::from_file(file, path).map(Some)
}

#[cfg(target_os = "linux")]
fn beneath(root: &Path, path: &Path) -> io::Result<File> {
    use nix::errno::Errno;
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

    let root_file = File::open(root)?;
    // Without NONBLOCK, a pipe that lies there would hold up the thread.
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(&root_file, path, how) {
        Ok(file) => Ok(file.into()),
        // A kernel before 5.6, or a sandbox that does not know the call.
        Err(Errno::ENOSYS | Errno::EPERM) => resolved(root, path),
        Err(error) => Err(error.into()),
    }
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
        for asked in [
            "../x",
            "a/../../x",
            "/etc/passwd",
            ".git/config",
            "a/.env",
            ".",
        ] {
            assert_eq!(visible(asked), None, "{asked}");
        }
        for (asked, path) in [
            ("", "index.html"),
            ("a/", "a/index.html"),
            ("a/b.txt", "a/b.txt"),
            (".well-known/x", ".well-known/x"),
        ] {
            assert_eq!(visible(asked), Some(PathBuf::from(path)));
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
