//! The log messages about connections that cannot be accepted: the reason, and the end of the shortage.

use std::io;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use tokio::time::{Duration, Instant};

/// Time between two messages about the same shortage.
const SILENCE: Duration = Duration::from_secs(10);

/// A shortage of descriptors or memory. New connections wait in the accept queue meanwhile.
#[derive(Debug, Default)]
pub(super) struct Shortage(Option<Since>);

#[derive(Debug)]
struct Since {
    begun: Instant,
    logged: Instant,
}

impl Shortage {
    /// A connection could not be accepted.
    pub(super) fn failed(&mut self, error: &io::Error) {
        let now = Instant::now();
        let is_due = |since: &Since| now - since.logged >= SILENCE;
        if self.0.as_ref().is_none_or(is_due) {
            log::error!("{}", sentence(error));
            let begun = self.0.as_ref().map_or(now, |since| since.begun);
            self.0 = Some(Since { begun, logged: now });
        }
    }

    /// A connection was accepted.
    pub(super) fn succeeded(&mut self) {
        if let Some(since) = self.0.take() {
            log::warn!(
                "Connections are accepted again, after {:.1} s.",
                since.begun.elapsed().as_secs_f32()
            );
        }
    }
}

fn sentence(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE) => {
            let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
            format!(
                "This worker has as many open files as it may have, {limit} (ulimit -n, \
                 LimitNOFILE= of systemd): new connections wait until others are closed."
            )
        }
        Some(Errno::ENFILE) => "This machine has as many open files as it may have (sysctl \
             fs.file-max): new connections wait until others are closed."
            .to_owned(),
        _ => format!("New connections wait, because they cannot be accepted: {error}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_the_limit_that_is_reached() {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("each process has one");
        let text = sentence(&Errno::EMFILE.into());
        assert!(
            text.contains(&soft.to_string()) && text.contains("ulimit -n"),
            "{text}"
        );
        assert!(sentence(&Errno::ENFILE.into()).contains("fs.file-max"));
        assert!(sentence(&Errno::ENOMEM.into()).contains("Cannot allocate memory"));
    }

    #[test]
    fn a_shortage_is_over_with_the_first_connection() {
        let mut shortage = Shortage::default();
        shortage.failed(&Errno::EMFILE.into());
        let begun = shortage.0.as_ref().map(|since| since.begun);
        shortage.failed(&Errno::EMFILE.into());
        assert_eq!(shortage.0.as_ref().map(|since| since.begun), begun);
        shortage.succeeded();
        assert!(shortage.0.is_none());
    }
}
