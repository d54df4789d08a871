//! The process that publishes.

use std::thread;
use std::time::Duration;

use crate::clock::{cpu_ns, now_ns};
use crate::credit::Window;
use crate::ledger::Stamp;
use crate::task::{Pace, Sent, Task};
use crate::transport::{Publish, UsePublisher};
use crate::{Outcome, child};

/// Messages between two looks at the clock, when nothing else limits the rate.
const BETWEEN_LOOKS: u64 = 64;

/// The role of a producer, once it has a transport.
pub(crate) struct Producing<'a>(pub(crate) &'a Task);

impl UsePublisher for Producing<'_> {
    fn run<P: Publish>(self, mut publisher: P) -> Outcome<()> {
        let task = self.0;
        let mut window = Window::open(task)?;
        child::ready()?;
        let (cpu, begin_ns) = (cpu_ns(), now_ns());
        let mut stream = Stream {
            publisher: &mut publisher,
            message: vec![0x5a; task.bytes],
            window: &mut window,
            producer: task.number as u32,
            number: 0,
            waiting_ns: 0,
        };
        match task.pace {
            Pace::Spinning {
                interval_ns,
                for_ns,
            } => {
                paced(&mut stream, interval_ns, for_ns, |until| {
                    while now_ns() < until {
                        std::hint::spin_loop();
                    }
                })?;
            }
            Pace::Sleeping {
                interval_ns,
                for_ns,
            } => {
                paced(&mut stream, interval_ns, for_ns, |until| {
                    thread::sleep(Duration::from_nanos(until.saturating_sub(now_ns())));
                })?;
            }
            Pace::Flat { for_ns } => flat(&mut stream, begin_ns + for_ns)?,
        }
        let messages = stream.number;
        let (cpu_ns, waiting_ns) = (cpu_ns() - cpu, stream.waiting_ns);
        stream.wait_for_window()?;
        stream.publish(true, now_ns())?;
        stream.publisher.flush()?;
        let sent = Sent {
            messages,
            begin_ns,
            cpu_ns,
            waiting_ns,
        };
        // Stays until all readers have all messages: some transports lose unread messages with their producer.
        child::say(&serde_json::to_string(&sent)?);
        child::wait()
    }
}

/// Numbered messages, one behind the other.
struct Stream<'a, P> {
    publisher: &'a mut P,
    window: &'a mut Window,
    message: Vec<u8>,
    producer: u32,
    number: u64,
    /// CPU time for waiting.
    waiting_ns: u64,
}

impl<P: Publish> Stream<'_, P> {
    /// Waits until the slowest reader is near enough. True: it had to wait.
    #[inline]
    fn wait_for_window(&mut self) -> Outcome<bool> {
        if self.window.is_open(self.number) {
            return Ok(false);
        }
        self.publisher.flush()?;
        let before = cpu_ns();
        while !self.window.is_open(self.number) {
            if !self.window.refresh()? {
                thread::yield_now();
            }
        }
        self.waiting_ns += cpu_ns() - before;
        Ok(true)
    }

    #[inline]
    fn publish(&mut self, is_end: bool, time_ns: u64) -> Outcome<()> {
        let stamp = Stamp {
            producer: self.producer,
            is_end,
            number: self.number,
            time_ns,
        };
        stamp.write(&mut self.message);
        self.number += 1;
        self.publisher.publish(&self.message)
    }
}

/// Publishes single messages, at intervals that vary by a quarter, so that none keeps step with the kernel's clock.
fn paced<P: Publish>(
    stream: &mut Stream<'_, P>,
    interval_ns: u64,
    for_ns: u64,
    wait_until: impl Fn(u64),
) -> Outcome<()> {
    let end = now_ns() + for_ns;
    let mut next = now_ns();
    while next < end {
        let turn = stream.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        next = next.max(now_ns()) + interval_ns * 7 / 8 + interval_ns * turn / 1024;
        wait_until(next);
        stream.wait_for_window()?; // only if other processes took the reader's CPU
        stream.publish(false, now_ns())?;
        stream.publisher.flush()?;
    }
    Ok(())
}

/// Publishes as many messages as the window allows.
fn flat<P: Publish>(stream: &mut Stream<'_, P>, end_ns: u64) -> Outcome<()> {
    loop {
        if stream.number.is_multiple_of(BETWEEN_LOOKS) && now_ns() >= end_ns {
            break;
        }
        if stream.wait_for_window()? && now_ns() >= end_ns {
            break;
        }
        stream.publish(false, 0)?;
    }
    Ok(())
}
