//! What is kept by name within so many bytes: what was heard of longest ago is the first to go.

use lru::LruCache;

/// The part of the memory that names have which nobody knows.
const STRANGERS: usize = 8;

/// What takes memory beside its name.
pub(crate) trait Weigh {
    /// Bytes that it takes.
    fn weight(&self) -> usize;
}

/// Things by name.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    kept: LruCache<Box<[u8]>, T>,
    bytes: usize,
    limit: usize,
    evicted: u64,
}

impl<T: Weigh> Shelf<T> {
    /// Two that hold so many bytes together: of extensions, and of names that nobody knows, which push no extension out.
    pub(crate) fn pair(bytes: usize) -> (Shelf<T>, Shelf<T>) {
        let strangers = bytes / STRANGERS;
        let shelf = |limit| Shelf { kept: LruCache::unbounded(), bytes: 0, limit, evicted: 0 };
        (shelf(bytes - strangers), shelf(strangers))
    }

    /// Changes what there is under a name; gives the change back where there is nothing.
    pub(crate) fn change<C: FnOnce(&mut T)>(&mut self, name: &[u8], change: C) -> Option<C> {
        let Some(own) = self.kept.get_mut(name) else { return Some(change) };
        self.bytes -= own.weight();
        change(own);
        self.bytes += own.weight();
        self.make_room();
        None
    }

    /// Changes what there is under a name, or what is made for it.
    pub(crate) fn change_or_put(
        &mut self,
        name: &[u8],
        fresh: impl FnOnce() -> T,
        change: impl FnOnce(&mut T),
    ) {
        if let Some(change) = self.change(name, change) {
            let mut own = fresh();
            change(&mut own);
            self.put(name, own);
        }
    }

    /// Puts something under a name that has nothing.
    pub(crate) fn put(&mut self, name: &[u8], own: T) {
        self.bytes += own.weight() + name_weight(name);
        self.kept.put(name.into(), own);
        self.make_room();
    }

    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<T> {
        let own = self.kept.pop(name)?;
        self.bytes -= own.weight() + name_weight(name);
        Some(own)
    }

    /// What there is under a name; it counts as not heard of.
    pub(crate) fn peek(&self, name: &[u8]) -> Option<&T> {
        self.kept.peek(name)
    }

    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.kept.contains(name)
    }

    /// All, what was heard of last first.
    pub(crate) fn iter(&self) -> lru::Iter<'_, Box<[u8]>, T> {
        self.kept.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many went to make room.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    fn make_room(&mut self) {
        while self.bytes > self.limit
            && let Some((name, own)) = self.kept.pop_lru()
        {
            self.bytes -= own.weight() + name_weight(&name);
            self.evicted += 1;
        }
    }
}

/// What a name costs: two copies of it are not kept, but links and a place in the index are.
fn name_weight(name: &[u8]) -> usize {
    name.len() + 96
}
