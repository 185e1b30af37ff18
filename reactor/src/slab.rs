//! Slots with generations: a name that outlived its object is a miss, never another object.

use std::fmt;
use std::marker::PhantomData;

/// The name of a `K` in its owner's slab: plain data, to be sent, kept in `wr_id`s, timers and contexts, and looked up.
pub struct Handle<K> {
    index: u32,
    generation: u32,
    _kind: PhantomData<fn() -> K>,
}

impl<K> Handle<K> {
    /// Slot number, below the slab's capacity (and below 2^24).
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The slot's generation.
    #[must_use]
    pub fn generation(self) -> u32 {
        self.generation
    }

    /// Packed into 56 bits: generation above 24 bits of index. The top 8 bits are free for a kind.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 24 | u64::from(self.index)
    }

    /// Unpacks what [`Self::to_bits`] made; the top 8 bits are ignored. Any number is allowed: a wrong one is a miss.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        let index = (bits & 0xFF_FFFF) as u32;
        let generation = (bits >> 24) as u32;
        Self { index, generation, _kind: PhantomData }
    }
}

impl<K> Clone for Handle<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Handle<K> {}
impl<K> PartialEq for Handle<K> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.generation == other.generation
    }
}
impl<K> Eq for Handle<K> {}
impl<K> fmt::Debug for Handle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// Objects of one CPU in a fixed number of slots. A slot whose generation would wrap is never used again. `K` is the kind that
/// handles are named for: by default the object itself.
pub struct Slab<T, K = T> {
    _todo: PhantomData<(T, K)>,
}

impl<T, K> Slab<T, K> {
    /// At most `capacity` objects, all slots allocated now. Panics above 2^24.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let _ = capacity;
        todo!()
    }

    /// Puts an object into a free slot.
    ///
    /// # Errors
    /// Hands it back when no slot is free.
    pub fn insert(&mut self, object: T) -> Result<Handle<K>, crate::limbo::Full<T>> {
        Err(crate::limbo::Full(object))
    }

    /// The handle that the next successful insert will give.
    #[must_use]
    pub fn next_handle(&self) -> Option<Handle<K>> {
        todo!()
    }

    /// The object, unless the handle is stale.
    #[must_use]
    pub fn look(&self, handle: Handle<K>) -> Option<&T> {
        let _ = handle;
        todo!()
    }

    /// The same, to change it.
    #[must_use]
    pub fn look_mut(&mut self, handle: Handle<K>) -> Option<&mut T> {
        let _ = handle;
        todo!()
    }

    /// Takes the object out; its handle is stale from now on.
    pub fn remove(&mut self, handle: Handle<K>) -> Option<T> {
        let _ = handle;
        todo!()
    }

    /// The live objects with their handles, by slot number.
    pub fn iter(&self) -> impl Iterator<Item = (Handle<K>, &T)> {
        std::iter::empty()
    }

    /// The live handles, by slot number.
    pub fn handles(&self) -> impl Iterator<Item = Handle<K>> {
        self.iter().map(|(handle, _)| handle)
    }

    /// Live objects.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slots.
    #[must_use]
    pub fn capacity(&self) -> usize {
        todo!()
    }
}

/// Facts kept beside another slab's objects, under the same handles.
pub struct Side<T, K> {
    _todo: PhantomData<(T, K)>,
}

impl<T, K> Side<T, K> {
    /// For handles of a slab with `capacity` slots.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let _ = capacity;
        todo!()
    }

    /// Keeps `value` under `handle`, and gives back what an older handle of the slot had left there.
    pub fn insert(&mut self, handle: Handle<K>, value: T) -> Option<T> {
        let _ = (handle, value);
        todo!()
    }

    /// The value kept under exactly this handle.
    #[must_use]
    pub fn look(&self, handle: Handle<K>) -> Option<&T> {
        let _ = handle;
        todo!()
    }

    /// The same, to change it.
    #[must_use]
    pub fn look_mut(&mut self, handle: Handle<K>) -> Option<&mut T> {
        let _ = handle;
        todo!()
    }

    /// Takes it out.
    pub fn remove(&mut self, handle: Handle<K>) -> Option<T> {
        let _ = handle;
        todo!()
    }
}
