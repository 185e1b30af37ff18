//! Sees a step that does not end: a run is one thread's, and nobody on that thread would notice.
//!
//! Each thread that plays says which run it is at, and that it goes on; one more thread looks at them now and then. Nothing of it reaches a run.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::run::Origin;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// What a thread plays.
type Played = (&'static str, Origin);

#[derive(Default)]
struct Player {
    beat_count: AtomicU64,
    played: Mutex<Option<Played>>,
}

static PLAYERS: Mutex<Vec<Arc<Player>>> = Mutex::new(Vec::new());

thread_local! {
    /// This thread's, while it plays. It decides nothing: only the watchdog reads it.
    static PLAYER: RefCell<Option<Arc<Player>>> = const { RefCell::new(None) };
}

/// This thread plays a run, until the value is dropped.
pub(super) struct Playing;

impl Playing {
    pub(super) fn begin(scenario: &'static str, origin: &Origin) -> Self {
        let player = PLAYER.with_borrow_mut(|player| Arc::clone(player.get_or_insert_with(registered)));
        player.beat_count.fetch_add(1, Ordering::Relaxed);
        *lock(&player.played) = Some((scenario, origin.clone()));
        Self
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        PLAYER.with_borrow(|player| {
            if let Some(player) = player {
                *lock(&player.played) = None;
            }
        });
    }
}

/// This thread's run goes on.
pub(super) fn beat() {
    PLAYER.with_borrow(|player| {
        if let Some(player) = player {
            player.beat_count.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// What this thread plays now.
pub(super) fn played() -> Option<Played> {
    PLAYER.with_borrow(|player| player.as_ref().and_then(|player| lock(&player.played).clone()))
}

fn registered() -> Arc<Player> {
    let player = Arc::<Player>::default();
    lock(&PLAYERS).push(Arc::clone(&player));
    player
}

/// Looks, until it is dropped.
pub struct Watchdog {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Calls `bark` once, on its own thread, with a run that made no step for so long.
    #[must_use]
    pub fn start(patience: Duration, bark: impl FnOnce(&'static str, &Origin) + Send + 'static) -> Self {
        let (end, ended) = mpsc::channel();
        let look = move || {
            let mut looks = Looks::default();
            let look_count_max = patience.as_millis() / INTERVAL.as_millis() + 1;
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if let Some((scenario, origin)) = looks.at_all(look_count_max) {
                    return bark(scenario, &origin);
                }
            }
        };
        Self { end: Some(end), thread: Some(thread::spawn(look)) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It barked, or it ends now; a panic of it was printed.
            let _ = thread.join();
        }
    }
}

/// By player: the count of beats that was seen last, and how often.
#[derive(Default)]
struct Looks(Vec<(u64, u128)>);

impl Looks {
    fn at_all(&mut self, look_count_max: u128) -> Option<Played> {
        let players = lock(&PLAYERS);
        self.0.resize(players.len(), (0, 0));
        for (player, (seen, look_count)) in players.iter().zip(&mut self.0) {
            let beat_count = player.beat_count.load(Ordering::Relaxed);
            let played = lock(&player.played).clone();
            let stands_still = played.is_some() && beat_count == *seen;
            *look_count = if stands_still { *look_count + 1 } else { 0 };
            *seen = beat_count;
            if *look_count > look_count_max {
                return played;
            }
        }
        None
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
