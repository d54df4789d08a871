//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::{Long, Short, ValueExt};

use crate::Outcome;
use crate::plan::{Case, Contender};
use crate::task::Task;

const HELP: &str = "\
Measures the bus alone, beside iceoryx2, a Unix socket, a pipe, Redis and NATS.

  --rounds N       rounds, in which all take their turns (3)
  --millis N       how long each measurement takes (300)
  --ring BYTES     of each of Fanbus's rings (8 MiB, the default)
  --only TEXT      rows whose name contains this, as \"1 to 1, 128 B\" or \"asleep\"
  --contenders A,B only these: fanbus, iceoryx2, unix socket, pipe, redis, nats
  --json FILE      all figures of all rounds
  --markdown FILE  the tables of docs/benchmarks/bus.md";

pub(crate) enum Command {
    Help,
    /// Internal: run as one process of a run.
    Play(Box<Task>),
    Measure(Options),
}

pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) each: Duration,
    pub(crate) ring_bytes: usize,
    only: String,
    contenders: Vec<Contender>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) markdown: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse() -> Outcome<Command> {
        let mut options = Options {
            rounds: 3,
            each: Duration::from_millis(300),
            ring_bytes: fanbus::ipc::BusOptions::default().ring_bytes,
            only: String::new(),
            contenders: Contender::ALL.to_vec(),
            json: None,
            markdown: None,
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("task") => {
                    let task = arguments.value()?.string()?;
                    return Ok(Command::Play(Box::new(serde_json::from_str(&task)?)));
                }
                Long("rounds") => options.rounds = arguments.value()?.parse()?,
                Long("millis") => options.each = Duration::from_millis(arguments.value()?.parse()?),
                Long("ring") => options.ring_bytes = arguments.value()?.parse()?,
                Long("only") => options.only = arguments.value()?.string()?,
                Long("contenders") => options.contenders = chosen(&arguments.value()?.string()?)?,
                Long("json") => options.json = Some(arguments.value()?.into()),
                Long("markdown") => options.markdown = Some(arguments.value()?.into()),
                Long("help") | Short('h') => {
                    options.print(HELP);
                    return Ok(Command::Help);
                }
                _ => return Err(argument.unexpected().into()),
            }
        }
        if options.rounds == 0 || options.each.is_zero() {
            return Err("--rounds and --millis are 1 or more".into());
        }
        Ok(Command::Measure(options))
    }

    /// The contenders of a row.
    pub(crate) fn contenders(&self, case: Case) -> Vec<Contender> {
        if !case.name().contains(&self.only) {
            return Vec::new();
        }
        let has = |contender: &Contender| case.has(*contender);
        self.contenders.iter().copied().filter(has).collect()
    }

    #[expect(clippy::print_stdout, reason = "the table is the output")]
    #[expect(clippy::unused_self, reason = "who prints has read the options")]
    pub(crate) fn print(&self, text: &str) {
        println!("{text}");
    }
}

fn chosen(names: &str) -> Outcome<Vec<Contender>> {
    let find = |name: &str| {
        let is_it = |it: &Contender| it.name().eq_ignore_ascii_case(name);
        let found = Contender::ALL.into_iter().find(is_it);
        found.ok_or_else(|| format!("There is no contender {name:?}: see --help.").into())
    };
    names.split(',').map(find).collect()
}
