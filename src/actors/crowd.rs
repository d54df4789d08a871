//! The count of clients that decides when a worker returns memory to the system: after a crowd of clients has left,
//! and not between two crowds of a busy hour.

/// Fewer clients that have left are not a crowd.
const CROWD: usize = 512;

/// So many bytes that waited for clients leave as much memory behind as one client does.
const BYTES_OF_A_CLIENT: usize = 32 << 10;

/// After so many looks in a row at which no client has left, the crowd has gone.
const CALM: u32 = 20;

/// The number of clients, which is looked at in each tick.
#[derive(Debug, Default)]
pub struct Crowd {
    /// The most clients since memory was last returned.
    most: usize,
    last: usize,
    /// Looks in a row in which no client left.
    calm: u32,
}

impl Crowd {
    /// Must memory be returned now? Then at least half of the most clients have left, and no more are leaving.
    /// `waiting`: bytes that wait for the clients that are still here.
    pub fn has_gone(&mut self, present: usize, waiting: usize) -> bool {
        let present = present + waiting / BYTES_OF_A_CLIENT;
        self.most = self.most.max(present);
        self.calm = if present < self.last {
            0
        } else {
            self.calm + 1
        };
        self.last = present;
        let gone = self.most - present;
        let is_time = gone >= CROWD && gone >= self.most / 2 && self.calm >= CALM;
        if is_time {
            self.most = present;
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of looks after which it is time.
    fn looks(crowd: &mut Crowd, present: &[usize]) -> usize {
        present
            .iter()
            .filter(|now| crowd.has_gone(**now, 0))
            .count()
    }

    #[test]
    fn memory_is_given_back_once_when_a_crowd_has_gone_and_it_is_calm() {
        let mut crowd = Crowd::default();
        assert_eq!(looks(&mut crowd, &[0, 5_000, 9_000, 9_000]), 0);
        assert_eq!(looks(&mut crowd, &[6_000, 2_000, 100]), 0, "they are going");
        assert_eq!(looks(&mut crowd, &[100; CALM as usize]), 1);
        assert_eq!(
            looks(&mut crowd, &[100; 1000]),
            0,
            "no client has gone since"
        );
    }

    #[test]
    fn few_clients_and_a_few_of_many_are_no_crowd() {
        let mut crowd = Crowd::default();
        assert_eq!(looks(&mut crowd, &[500]), 0);
        assert_eq!(looks(&mut crowd, &[0; 100]), 0);
        let mut crowd = Crowd::default();
        assert_eq!(looks(&mut crowd, &[9_000]), 0);
        assert_eq!(looks(&mut crowd, &[5_000; 100]), 0);
    }

    #[test]
    fn much_that_waited_for_a_few_is_a_crowd() {
        let mut crowd = Crowd::default();
        assert!(!crowd.has_gone(10, 64 << 20));
        let times = (0..100).filter(|_| crowd.has_gone(10, 0));
        assert_eq!(times.count(), 1);
    }

    #[test]
    fn a_crowd_that_goes_slowly_is_waited_for() {
        let mut crowd = Crowd::default();
        crowd.has_gone(2_000, 0);
        let going: Vec<usize> = (0..200).rev().flat_map(|left| [left * 10; 10]).collect();
        assert_eq!(looks(&mut crowd, &going), 0);
        assert_eq!(looks(&mut crowd, &[0; CALM as usize]), 1);
    }
}
