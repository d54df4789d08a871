//! The reader of multipart forms (RFC 7578), which parses them while they arrive.
//!
//! Small parts stay in memory. Larger ones are written to one file per request. The file has no name: it disappears
//! with the last part that refers to it, however the process ends.

use std::cell::Cell;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use actix_http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures_core::Stream;
use tokio::task::spawn_blocking;

use super::body_error::BodyError;
use super::budget::{Budget, Hold};
use super::head::Head;
use super::multipart::{MultipartEvent, Parser};
use super::part_head::{Malformed, PartHead};
use super::request_body::RequestBody;

/// Bytes that are written to the file at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Memory for all texts and small files of a form, in bytes.
pub(super) const MAX_MEMORY_BYTES: usize = 1 << 20;

/// Parts that a form may have.
pub const MAX_PARTS: usize = 1000;

/// A part of a form: a field's text, or a file.
#[derive(Debug)]
pub struct Part {
    /// The name of the field.
    pub name: String,
    /// The name of the file on the client's machine, as the client reports it. None: the part is not a file.
    pub filename: Option<String>,
    /// `Content-Type`, as the client reports it.
    pub content_type: Option<String>,
    content: PartContent,
}

#[derive(Debug)]
enum PartContent {
    Memory(Bytes),
    /// A range of the request's file.
    File {
        file: Arc<File>,
        begin: u64,
        len: u64,
    },
}

impl Part {
    /// The size of its content, in bytes.
    pub fn size(&self) -> u64 {
        match &self.content {
            PartContent::Memory(bytes) => bytes.len() as u64,
            PartContent::File { len, .. } => *len,
        }
    }

    /// The content, if it is in memory. A part that is not a file always is.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match &self.content {
            PartContent::Memory(bytes) => Some(bytes),
            PartContent::File { .. } => None,
        }
    }

    /// Up to `most` bytes of the content from `offset` on. Fewer only at its end.
    pub fn read_at(&self, offset: u64, most: usize) -> io::Result<Bytes> {
        let left = self.size().saturating_sub(offset);
        let len = left.min(most as u64) as usize;
        match &self.content {
            PartContent::Memory(_) if len == 0 => Ok(Bytes::new()),
            PartContent::Memory(bytes) => Ok(bytes.slice(offset as usize..offset as usize + len)),
            PartContent::File { file, begin, .. } => {
                let mut read = vec![0; len];
                file.read_exact_at(&mut read, begin + offset)?;
                Ok(read.into())
            }
        }
    }
}

/// Why a form is not accepted.
#[derive(Debug)]
pub(super) enum FormError {
    Body(BodyError),
    /// It has more than [`MAX_PARTS`].
    TooManyParts,
    /// Its texts exceed [`MAX_MEMORY_BYTES`].
    TextTooLarge,
    /// It does not match its `Content-Type`. The value is a clause for people.
    Malformed(Malformed),
    /// Its file is not writable.
    Disk(io::Error),
}

/// Whether the request announces a multipart form.
pub(super) fn is_form(head: &Head) -> bool {
    const FORM: &[u8] = b"multipart/form-data";
    let kind = head.get(&CONTENT_TYPE);
    kind.and_then(|kind| kind.get(..FORM.len()))
        .is_some_and(|kind| kind.eq_ignore_ascii_case(FORM))
}

/// Reads a form to its end. The part in memory counts for the budget; files go to the disk.
pub(super) async fn read(
    head: &Head,
    body: RequestBody,
    budget: &Rc<Budget>,
) -> Result<(Vec<Part>, Hold), FormError> {
    let mut body = FormInput {
        error: body.error(),
        chunks: body,
        parser: Parser::new(head.get(&CONTENT_TYPE)).map_err(FormError::Malformed)?,
    };
    let mut reader = PartReader::new(budget);
    let mut parts = Vec::new();
    loop {
        match body.next().await? {
            MultipartEvent::Part(_) if parts.len() == MAX_PARTS => {
                return Err(FormError::TooManyParts);
            }
            MultipartEvent::Part(head) => parts.push(reader.part(head, &mut body).await?),
            _ => break,
        }
    }
    body.rest().await?;
    Ok((parts, reader.hold))
}

/// A body that is parsed while it arrives.
struct FormInput {
    chunks: RequestBody,
    /// Why `chunks` failed.
    error: Rc<Cell<Option<BodyError>>>,
    parser: Parser,
}

impl FormInput {
    /// The next event. Never `More`.
    async fn next(&mut self) -> Result<MultipartEvent, FormError> {
        loop {
            match self.parser.next().map_err(FormError::Malformed)? {
                MultipartEvent::More => {}
                event => return Ok(event),
            }
            if let Some(chunk) = self.chunk().await? {
                self.parser.feed(&chunk);
            } else {
                self.parser.finish().map_err(FormError::Malformed)?;
                return Ok(MultipartEvent::End);
            }
        }
    }

    /// Reads the bytes after the form, so that the connection can continue.
    async fn rest(&mut self) -> Result<(), FormError> {
        while self.chunk().await?.is_some() {}
        Ok(())
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FormError> {
        let chunk = poll_fn(|task| Pin::new(&mut self.chunks).poll_next(task)).await;
        let broken = |_| FormError::Body(self.error.get().unwrap_or(BodyError::Broken));
        chunk.transpose().map_err(broken)
    }
}

/// The state of reading the parts of one form.
struct PartReader {
    memory_bytes: usize,
    /// None while everything is in memory.
    file: Option<Arc<File>>,
    file_bytes: u64,
    /// The share of the memory for bodies.
    hold: Hold,
}

impl PartReader {
    fn new(budget: &Rc<Budget>) -> Self {
        Self {
            memory_bytes: 0,
            file: None,
            file_bytes: 0,
            hold: Hold::new(budget),
        }
    }

    async fn part(&mut self, head: PartHead, body: &mut FormInput) -> Result<Part, FormError> {
        let PartHead {
            name,
            filename,
            content_type,
        } = head;
        let begin = self.file_bytes;
        let mut buffer: Vec<u8> = Vec::new();
        let mut is_in_file = false;
        while let MultipartEvent::Content(chunk) = body.next().await? {
            if !is_in_file {
                let is_too_much = self.memory_bytes + buffer.len() + chunk.len() > MAX_MEMORY_BYTES;
                if is_too_much && filename.is_none() {
                    return Err(FormError::TextTooLarge);
                }
                is_in_file = is_too_much || !self.hold.try_grow(chunk.len());
                if is_in_file && filename.is_none() {
                    return Err(FormError::Body(BodyError::NoMemory));
                }
            }
            buffer.extend_from_slice(&chunk);
            if is_in_file && buffer.len() >= CHUNK_BYTES {
                buffer = self.write(buffer).await?;
            }
        }
        let content = if is_in_file {
            self.write(buffer).await?;
            let file = self.file.clone().expect("it has been written to");
            let len = self.file_bytes - begin;
            PartContent::File { file, begin, len }
        } else {
            self.memory_bytes += buffer.len();
            PartContent::Memory(buffer.into())
        };
        Ok(Part {
            name,
            filename,
            content_type,
            content,
        })
    }

    /// Appends to the file, on a thread that may wait for the disk. Returns the buffer, empty.
    async fn write(&mut self, mut bytes: Vec<u8>) -> Result<Vec<u8>, FormError> {
        let (file, offset, len) = (self.file.clone(), self.file_bytes, bytes.len() as u64);
        let write = move || {
            let file = file.map_or_else(|| tempfile::tempfile().map(Arc::new), Ok)?;
            file.write_all_at(&bytes, offset)?;
            bytes.clear();
            Ok((file, bytes))
        };
        let written: io::Result<_> = spawn_blocking(write)
            .await
            .map_err(io::Error::other)
            .flatten();
        let (file, bytes) = written.map_err(FormError::Disk)?;
        self.file = Some(file);
        self.file_bytes += len;
        self.hold.shrink_to(self.memory_bytes);
        Ok(bytes)
    }
}
