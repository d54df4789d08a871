//! The test of producers and readers that are killed at random and replaced, for any time.
//!
//! Each record carries its producer, its number, and a checksum over a random length. Two seconds here; `make soak`
//! takes `SOAK_SECONDS`, by default 60.
#![allow(clippy::print_stdout)] // the figures, for long runs

use std::collections::HashMap;
use std::env;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use fanbus::ipc::{Bus, Next, topic_hash};

use super::process::{Actor, Name, PATIENCE, listen, say};
use super::roles::{draft, hash, small};

const PRODUCERS: usize = 3;
const READERS: usize = 3;
/// Records per hash.
const BLOCK: u64 = 64;
/// The payload of the last record of all.
const END: &[u8] = b"end";

/// Noise (xorshift).
struct Noise(u64);

impl Noise {
    fn new() -> Noise {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Noise(now.expect("after 1970").as_nanos() as u64 ^ u64::from(std::process::id()) << 32 | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn word(payload: &[u8], number: usize) -> u64 {
    let bytes = payload[8 * number..8 * number + 8].try_into();
    u64::from_le_bytes(bytes.expect("8 bytes"))
}

/// Publishes until it is killed, at times so much at once that readers fall behind.
pub(super) fn producer(name: &str) {
    let bus = Bus::open(name, &small()).expect("it opens");
    let member = bus.member();
    say("ready");
    let mut noise = Noise::new();
    let mut payload = Vec::new();
    for number in 0_u64.. {
        let bytes = 8 * noise.below(if number % 32 == 0 { 1000 } else { 20 });
        payload.clear();
        for word in [member.slot.into(), member.incarnation.into(), number] {
            payload.extend_from_slice(&u64::to_le_bytes(word));
        }
        payload.extend((0..bytes).map(|at| (at ^ number) as u8));
        let check = topic_hash(&payload);
        payload.extend_from_slice(&check.to_le_bytes());
        bus.publish(&draft(&payload)).expect("a sound bus");
        let pause = Duration::from_micros(noise.below(60));
        let start = Instant::now();
        while start.elapsed() < pause && number % 4096 > 1024 {
            std::hint::spin_loop();
        }
    }
}

/// Reads until the end, or until it is killed; checks each record, and hashes block by block.
pub(super) fn reader(name: &str) {
    let bus = Bus::open(name, &small()).expect("it opens");
    bus.add_interest(hash());
    let mut subscriber = bus.subscriber();
    let start = subscriber.offset();
    say("ready");
    let (mut next, mut received, mut missed) = (start, 0_u64, 0_u64);
    let mut numbers: HashMap<(u64, u64), (u64, u64)> = HashMap::new();
    let (mut running, mut hashed) = (DefaultHasher::new(), 0);
    let mut blocks = String::new();
    let mut frames = Vec::new();
    loop {
        frames.clear();
        match subscriber.next(|_| true, &mut frames) {
            Next::Record(head) => {
                assert_eq!(
                    head.offset, next,
                    "the gaps that were told are all there are"
                );
                next += 1;
                received += 1;
                let payload = &frames[5..];
                if payload == END {
                    break;
                }
                let (body, check) = payload.split_at(payload.len() - 8);
                assert_eq!(topic_hash(body), word(check, 0), "torn at {}", head.offset);
                let producer_id = (word(body, 0), word(body, 1));
                let producer = head.producer;
                assert_eq!(
                    producer_id,
                    (producer.slot.into(), producer.incarnation.into())
                );
                let number = word(body, 2);
                if let Some((last, gaps)) = numbers.insert(producer_id, (number, missed)) {
                    assert!(number > last, "out of order at {}", head.offset);
                    assert!(
                        number - last - 1 <= missed - gaps,
                        "lost at {}",
                        head.offset
                    );
                }
                if head.offset.is_multiple_of(BLOCK) {
                    (running, hashed) = (DefaultHasher::new(), 0);
                }
                payload.hash(&mut running);
                hashed += 1;
                if head.offset % BLOCK == BLOCK - 1 && hashed == BLOCK {
                    let (block, hash) = (head.offset / BLOCK, running.finish());
                    write!(blocks, " {block}:{hash:x}").expect("a string grows");
                }
            }
            Next::Lagged(count) => {
                missed += count;
                next += count;
                hashed = 0;
            }
            Next::Skipped => {}
            Next::Empty => drop(subscriber.wait(PATIENCE)),
        }
    }
    assert_eq!(received + missed, next - start);
    say(&format!(
        "result {start} {next} {received} {missed}{blocks}"
    ));
    listen();
}

fn start(role: &str, name: &Name) -> Actor {
    let mut actor = Actor::start(role, name);
    actor.hear_after("ready");
    actor
}

#[test]
fn readers_agree_and_gaps_are_exact_while_members_are_killed_at_random() {
    let seconds = env::var("SOAK_SECONDS").map_or(2, |text| text.parse().expect("a number"));
    let name = Name::new("torture");
    let bus = Bus::open(&name.0, &small()).expect("it opens");
    // The first producer and the first two readers are never killed.
    let mut producers: Vec<_> = (0..PRODUCERS).map(|_| start("torturer", &name)).collect();
    let mut readers: Vec<_> = (0..READERS).map(|_| start("witness", &name)).collect();
    let (mut noise, mut kills) = (Noise::new(), [0_u32; 2]);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let (others, role, kind, steady) = match noise.below(4) {
            0 => (&mut readers, "witness", 1, 2),
            _ => (&mut producers, "torturer", 0, 1),
        };
        let one = steady + noise.below((others.len() - steady) as u64) as usize;
        let moment = bus.end() + noise.below(200);
        super::process::until("a producer publishes", || bus.end() >= moment);
        others[one].kill();
        kills[kind] += 1;
        if noise.below(2) == 0 {
            bus.reap();
        }
        others[one] = start(role, &name);
    }
    producers.clear();
    let last = bus.publish(&draft(END)).expect("a sound bus");

    let mut agreed: HashMap<String, String> = HashMap::new();
    let (mut compared, mut totals) = (0_u64, [0_u64; 2]);
    for reader in &mut readers {
        let line = reader.hear_after("result");
        let mut words = line.split(' ');
        let mut number = || -> u64 { words.next().expect("four").parse().expect("a number") };
        let (from, to, received, missed) = (number(), number(), number(), number());
        assert_eq!((to, received + missed), (last + 1, to - from));
        totals = [totals[0] + received, totals[1] + missed];
        for (block, hash) in words.filter_map(|word| word.split_once(':')) {
            let first = agreed.entry(block.into()).or_insert_with(|| hash.into());
            assert_eq!(
                first, hash,
                "two readers saw different records in block {block}"
            );
            compared += 1;
        }
    }
    compared -= agreed.len() as u64;
    let [producers, readers] = kills;
    println!("killed {producers} producers and {readers} readers in {seconds} s; {last} records");
    println!("{totals:?} received and missed; {compared} blocks of {BLOCK} compared");
    assert!(kills[0] > 0 && totals[0] > 0 && compared > 0);
}
