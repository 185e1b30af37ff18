//! `nvmf-ctl top`: what CPUs, namespaces, hosts and queue pairs do now. Differences of what the target counts, so it costs the polling CPUs nothing.

mod report;
mod sample;
mod view;

use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyModifiers};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, queue};

use super::client::Client;
use super::trouble::Trouble;
use report::Report;
use sample::Sample;
use view::Size;

/// How it is shown.
#[derive(Debug, clap::Args)]
pub(super) struct Top {
    /// How many seconds are between two looks, such as 2 or 0.5.
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// One report without a display, for scripts.
    #[arg(long, conflicts_with = "batch")]
    once: bool,
    /// Reports below each other, without a display; with --json one object a line.
    #[arg(short, long)]
    batch: bool,
    /// So many reports, then it ends.
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "not a number of seconds from 0.1 to 3600".to_owned())
}

impl Top {
    /// Shows until it is told to end.
    pub(super) fn perform(&self, client: &mut Client, is_json: bool) -> Result<(), Trouble> {
        let is_plain = self.once || self.batch || is_json || !std::io::stdout().is_terminal();
        let count = if self.once { Some(1) } else { self.count };
        let count = usize::try_from(count.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        if is_plain { self.print(client, is_json, count) } else { self.display(client, count) }
    }

    fn print(&self, client: &mut Client, is_json: bool, count: usize) -> Result<(), Trouble> {
        let mut before = Sample::take(client)?;
        for number in 0..count {
            pause(self.interval);
            let after = Sample::take(client)?;
            let report = Report::between(&before, &after);
            before = after;
            let text = if is_json {
                serde_json::to_string(&report).map_err(|error| Trouble::Refused(error.to_string()))?
            } else {
                format!("{}{}", if number > 0 { "\n" } else { "" }, view::show(&report, Size::WHOLE))
            };
            match writeln!(std::io::stdout(), "{text}") {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
                other => other.map_err(|error| screen(&error))?,
            }
        }
        Ok(())
    }

    fn display(&self, client: &mut Client, count: usize) -> Result<(), Trouble> {
        let mut before = Sample::take(client)?;
        let _screen = Screen::enter().map_err(|error| screen(&error))?;
        // At once something, and then what happens.
        let mut report = Report::between(&before, &before);
        let mut left = count;
        loop {
            self.draw(&report).map_err(|error| screen(&error))?;
            match wait(self.interval).map_err(|error| screen(&error))? {
                Wish::Quit => return Ok(()),
                Wish::Redraw => continue,
                Wish::Next => {}
            }
            let after = Sample::take(client)?;
            report = Report::between(&before, &after);
            before = after;
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
    }

    fn draw(&self, report: &Report) -> std::io::Result<()> {
        let (columns, lines) = terminal::size()?;
        let size = Size { columns: columns.into(), lines: usize::from(lines).saturating_sub(2) };
        let mut out = std::io::stdout().lock();
        let head = format!("nvmf-ctl top: every {} s; q quits", self.interval.as_secs_f64());
        let head: String = head.chars().take(size.columns).collect();
        queue!(out, cursor::MoveTo(0, 0))?;
        for line in [head.as_str(), ""].into_iter().chain(view::show(report, size).lines()) {
            write!(out, "{line}")?;
            queue!(out, Clear(ClearType::UntilNewLine), cursor::MoveToNextLine(1))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown))?;
        out.flush()
    }
}

/// What the person at the terminal wants.
enum Wish {
    Quit,
    Redraw,
    Next,
}

fn wait(interval: Duration) -> std::io::Result<Wish> {
    if !event::poll(interval)? {
        return Ok(Wish::Next);
    }
    let Event::Key(key) = event::read()? else { return Ok(Wish::Redraw) };
    let interrupts = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    let quits = interrupts || [KeyCode::Char('q'), KeyCode::Esc].contains(&key.code);
    Ok(if quits { Wish::Quit } else { Wish::Next })
}

/// Nobody else waits for this process.
#[expect(clippy::disallowed_methods, reason = "a command for people, without a reactor")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn screen(error: &std::io::Error) -> Trouble {
    Trouble::Refused(format!("the terminal: {error}; --batch does without one"))
}

/// The terminal while it shows; given back as it was.
struct Screen;

impl Screen {
    fn enter() -> std::io::Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self;
        crossterm::execute!(std::io::stdout(), EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = crossterm::execute!(std::io::stdout(), cursor::Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}
