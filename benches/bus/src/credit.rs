//! The credit of a producer: how far it may be ahead of its readers, reported through a pipe beside the transport.
//!
//! The bus and the brokers lose messages of a producer that is too fast, so everything is measured in a closed loop:
//! at most a window of messages that not every reader has. All transports have the same window. A reader reports four
//! times per window, one system call in thousands of small messages.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::fcntl::OFlag;

use crate::Outcome;
use crate::ledger::Ledger;
use crate::task::Task;

/// The pipe of one producer, which its process makes.
pub(crate) fn path(task: &Task, producer: usize) -> PathBuf {
    task.folder.join(format!("credit-{producer}"))
}

/// The progress of all readers of a producer.
pub(crate) struct Window {
    pipe: File,
    size: u64,
    /// By reader: the messages that it has.
    done: Vec<u64>,
    /// Messages that all readers have.
    all_done: u64,
}

impl Window {
    pub(crate) fn open(task: &Task) -> Outcome<Window> {
        let path = path(task, task.number);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)?;
        let nonblocking = OFlag::O_NONBLOCK.bits();
        Ok(Window {
            pipe: OpenOptions::new()
                .read(true)
                .custom_flags(nonblocking)
                .open(path)?,
            size: task.window,
            done: vec![0; task.readers],
            all_done: 0,
        })
    }

    /// Whether another message may be sent after `sent`.
    #[inline]
    pub(crate) fn is_open(&self, sent: u64) -> bool {
        sent - self.all_done < self.size
    }

    /// Takes the reports of the readers. False: there is nothing new.
    pub(crate) fn refresh(&mut self) -> Outcome<bool> {
        let mut words = [0; 16 * 64];
        let count = match self.pipe.read(&mut words) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        // Writes of 16 bytes to a pipe are whole, and so are reads of a multiple of it.
        for credit in words[..count].chunks_exact(16) {
            let (reader, done) = credit.split_at(8);
            let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            self.done[word(reader) as usize] = word(done);
        }
        self.all_done = self.done.iter().copied().min().unwrap_or(u64::MAX);
        Ok(count > 0)
    }
}

/// A reader's end: one pipe to each producer.
pub(crate) struct Credits {
    pipes: Vec<(File, u64)>,
    reader: u64,
    step: u64,
}

impl Credits {
    pub(crate) fn open(task: &Task) -> Outcome<Credits> {
        let open = |producer| OpenOptions::new().write(true).open(path(task, producer));
        let pipes: Result<Vec<_>, _> = (0..task.producers).map(open).collect();
        Ok(Credits {
            pipes: pipes?.into_iter().map(|pipe| (pipe, 0)).collect(),
            reader: task.number as u64,
            step: (task.window / 4).max(1),
        })
    }

    /// Reports to a producer, if it is time.
    #[inline]
    pub(crate) fn grant(&mut self, producer: usize, ledger: &Ledger) -> Outcome<()> {
        let (pipe, told) = &mut self.pipes[producer];
        let done = ledger.next_of(producer);
        if done - *told >= self.step {
            *told = done;
            let credit = [self.reader.to_le_bytes(), done.to_le_bytes()].concat();
            if let Err(error) = pipe.write_all(&credit)
                && error.kind() != ErrorKind::BrokenPipe
            {
                return Err(error.into()); // a broken pipe: this producer has ended
            }
        }
        Ok(())
    }
}
