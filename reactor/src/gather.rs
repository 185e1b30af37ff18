//! Asking several CPUs and collecting what they answer.

use crate::cpu::Cpu;
use crate::turn::Turn;

/// A question that went to several CPUs, and the answers so far. The owner (typically the control plane) keeps it, in a [`crate::Slab`] if several run at a time, and
/// names it in the question by its [`crate::Handle`]:
///
/// ```
/// use reactor::{Cpu, Gathering, Program, Progress, Simulation, Turn};
///
/// enum Message { HowMany, SoMany(u32) }
///
/// /// The last CPU asks all others how many they have, and adds up.
/// struct Asker { gathering: Option<Gathering<u32>>, total: Option<u32> }
/// struct Asked { count: u32 }
///
/// impl Program for Asker {
///     type Message = Message;
///     fn receive<'t>(&mut self, turn: &mut Turn<'t, Message>, from: Option<Cpu>, message: Message) {
///         if let (Message::SoMany(count), Some(from), Some(gathering)) = (message, from, &mut self.gathering)
///             && gathering.answer(from, count)
///             && let Some(gathering) = self.gathering.take()
///         {
///             self.total = Some(gathering.into_answers().map(|(_cpu, count)| count).sum());
///             assert_eq!(self.total, Some(30));
///             turn.leave();
///         }
///     }
///     fn fire<'t>(&mut self, _turn: &mut Turn<'t, Message>, _token: u64) {}
///     fn poll<'t>(&mut self, turn: &mut Turn<'t, Message>) -> Progress {
///         if self.total.is_none() {
///             self.gathering.get_or_insert_with(|| Gathering::ask(turn, |_cpu| Message::HowMany));
///         }
///         Progress::Idle
///     }
/// }
///
/// impl Program for Asked {
///     type Message = Message;
///     fn receive<'t>(&mut self, turn: &mut Turn<'t, Message>, from: Option<Cpu>, _message: Message) {
///         if let Some(from) = from { turn.send(from, Message::SoMany(self.count)); }
///         turn.leave();
///     }
///     fn fire<'t>(&mut self, _turn: &mut Turn<'t, Message>, _token: u64) {}
///     fn poll<'t>(&mut self, _turn: &mut Turn<'t, Message>) -> Progress { Progress::Idle }
/// }
///
/// let mut simulation = Simulation::new(1, 3);
/// simulation.install(Cpu(0), Asked { count: 10 });
/// simulation.install(Cpu(1), Asked { count: 20 });
/// simulation.install(Cpu(2), Asker { gathering: None, total: None });
/// assert!(simulation.run_until_left(10_000));
/// ```
#[derive(Debug)]
#[must_use = "the answers have to be collected"]
pub struct Gathering<A> {
    /// By CPU.
    places: Box<[Place<A>]>,
    missing_count: usize,
}

#[derive(Debug)]
enum Place<A> {
    NotAsked,
    Asked,
    Answered(A),
}

impl<A> Gathering<A> {
    /// Asks all CPUs but this one.
    pub fn ask<M>(turn: &mut Turn<'_, M>, ask: impl FnMut(Cpu) -> M) -> Self {
        let this = turn.cpu();
        let others = (0..turn.cpu_count()).map(Cpu).filter(move |&cpu| cpu != this);
        Self::ask_some(turn, others, ask)
    }

    /// Asks these CPUs; this one too, if it is among them. A CPU that is named twice is asked once.
    pub fn ask_some<M>(
        turn: &mut Turn<'_, M>,
        cpus: impl IntoIterator<Item = Cpu>,
        mut ask: impl FnMut(Cpu) -> M,
    ) -> Self {
        let mut places: Box<[Place<A>]> = (0..turn.cpu_count()).map(|_| Place::NotAsked).collect();
        let mut missing_count = 0;
        for cpu in cpus {
            if matches!(places[usize::from(cpu.0)], Place::NotAsked) {
                places[usize::from(cpu.0)] = Place::Asked;
                missing_count += 1;
                turn.send(cpu, ask(cpu));
            }
        }
        Self { places, missing_count }
    }

    /// Takes one answer. True if it was the last. Panics if `from` was not asked or has answered.
    pub fn answer(&mut self, from: Cpu, answer: A) -> bool {
        let place = &mut self.places[usize::from(from.0)];
        assert!(matches!(place, Place::Asked), "cpu {} answered what it was not asked", from.0);
        *place = Place::Answered(answer);
        self.missing_count -= 1;
        self.is_complete()
    }

    /// Whether all have answered: at once, if nobody was asked.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing_count == 0
    }

    /// Who has not answered.
    pub fn missing(&self) -> impl Iterator<Item = Cpu> {
        let places = (0..).map(Cpu).zip(&self.places);
        places.filter(|(_, place)| matches!(place, Place::Asked)).map(|(cpu, _)| cpu)
    }

    /// What came, by CPU.
    pub fn into_answers(self) -> impl Iterator<Item = (Cpu, A)> {
        (0..).map(Cpu).zip(self.places).filter_map(|(cpu, place)| match place {
            Place::Answered(answer) => Some((cpu, answer)),
            Place::NotAsked | Place::Asked => None,
        })
    }
}
