//! Names: the directory tree that is seen, the one that is durable, and the changes in between.
//!
//! Invariant: the durable names with every pending change applied in order are the visible names.
//! A change is one name made, one removed, or both at once (a rename), and is lost or kept as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use rustix::io::Errno;

use super::PowerLoss;
use super::content::Content;
use super::random::Random;

pub(super) type InodeId = u64;
const ROOT: InodeId = 0;

/// A name in a directory.
type Name = (InodeId, String);

#[derive(Default)]
struct Directory {
    visible: BTreeMap<String, InodeId>,
    durable: BTreeMap<String, InodeId>,
}

enum Node {
    File(Content),
    Directory(Directory),
}

struct Inode {
    node: Node,
    handles: u32,
}

struct Change {
    removed: Option<Name>,
    made: Option<Name>,
    inode: InodeId,
    unsynced: BTreeSet<InodeId>,
}

impl Change {
    fn names(&self) -> impl Iterator<Item = &Name> {
        self.removed.iter().chain(&self.made)
    }
}

/// What a power loss had to choose from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtRisk {
    /// Files with bytes or a length not synced.
    pub files: u64,
    /// Names made, removed or renamed and not synced.
    pub names: u64,
    /// Pages that were left torn between two states.
    pub torn_pages: u64,
}

pub(super) struct Tree {
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: InodeId,
    pending: Vec<Change>,
}

impl Tree {
    pub(super) fn new() -> Tree {
        let root = Inode { node: Node::Directory(Directory::default()), handles: 0 };
        Tree { inodes: BTreeMap::from([(ROOT, root)]), next_inode: ROOT + 1, pending: Vec::new() }
    }

    pub(super) fn resolve(&self, path: &Path) -> io::Result<InodeId> {
        let mut trail = vec![ROOT];
        for component in path.components() {
            let here = *trail.last().unwrap_or(&ROOT);
            match component {
                Component::Normal(name) => {
                    let name = name.to_str().ok_or(Errno::INVAL)?;
                    trail.push(*self.directory(here)?.visible.get(name).ok_or(Errno::NOENT)?);
                }
                Component::ParentDir => {
                    trail.pop();
                }
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        Ok(trail.pop().unwrap_or(ROOT))
    }

    /// The directory a path's last name is in, and that name.
    fn resolve_parent(&self, path: &Path) -> io::Result<Name> {
        let name = path.file_name().ok_or(Errno::INVAL)?.to_str().ok_or(Errno::INVAL)?;
        let parent = self.resolve(path.parent().unwrap_or(Path::new("")))?;
        self.directory(parent)?;
        Ok((parent, name.to_owned()))
    }

    fn directory(&self, inode: InodeId) -> io::Result<&Directory> {
        match self.inodes.get(&inode) {
            Some(Inode { node: Node::Directory(directory), .. }) => Ok(directory),
            Some(_) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    fn directory_mut(&mut self, inode: InodeId) -> io::Result<&mut Directory> {
        match self.inodes.get_mut(&inode) {
            Some(Inode { node: Node::Directory(directory), .. }) => Ok(directory),
            Some(_) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    pub(super) fn content(&mut self, inode: InodeId) -> io::Result<&mut Content> {
        match self.inodes.get_mut(&inode) {
            Some(Inode { node: Node::File(content), .. }) => Ok(content),
            Some(_) => Err(Errno::ISDIR.into()),
            None => Err(Errno::IO.into()),
        }
    }

    pub(super) fn is_dir(&self, inode: InodeId) -> bool {
        self.directory(inode).is_ok()
    }

    /// Name, whether it is a directory, length; sorted.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<(String, bool, u64)>> {
        let directory = self.directory(self.resolve(path)?)?;
        let entries = directory.visible.iter().map(|(name, inode)| match self.inodes.get(inode).map(|it| &it.node) {
            Some(Node::File(content)) => (name.clone(), false, content.len()),
            Some(Node::Directory(_)) | None => (name.clone(), true, 0),
        });
        Ok(entries.collect())
    }

    fn add(&mut self, node: Node, name: Name) -> io::Result<InodeId> {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode { node, handles: 0 });
        self.change(None, Some(name), inode)?;
        Ok(inode)
    }

    fn change(&mut self, removed: Option<Name>, made: Option<Name>, inode: InodeId) -> io::Result<()> {
        if let Some((directory, name)) = &removed {
            self.directory_mut(*directory)?.visible.remove(name);
        }
        if let Some((directory, name)) = &made {
            self.directory_mut(*directory)?.visible.insert(name.clone(), inode);
        }
        let mut change = Change { removed, made, inode, unsynced: BTreeSet::new() };
        change.unsynced = change.names().map(|(directory, _)| *directory).collect();
        self.pending.push(change);
        Ok(())
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<InodeId> {
        let name = self.resolve_parent(path)?;
        self.add(Node::File(Content::default()), name)
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        for ancestor in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            match self.resolve(ancestor) {
                Ok(inode) => {
                    self.directory(inode)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let name = self.resolve_parent(ancestor)?;
                    self.add(Node::Directory(Directory::default()), name)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.resolve(from)?;
        let (from_name, to_name) = (self.resolve_parent(from)?, self.resolve_parent(to)?);
        if from_name == to_name {
            return Ok(());
        }
        if self.contains(inode, to_name.0) {
            return Err(Errno::INVAL.into());
        }
        if let Some(replaced) = self.directory(to_name.0)?.visible.get(&to_name.1) {
            match (self.is_dir(inode), self.directory(*replaced)) {
                (true, Ok(directory)) if !directory.visible.is_empty() => return Err(Errno::NOTEMPTY.into()),
                (true, Ok(_)) | (false, Err(_)) => {}
                (true, Err(_)) => return Err(Errno::NOTDIR.into()),
                (false, Ok(_)) => return Err(Errno::ISDIR.into()),
            }
        }
        self.change(Some(from_name), Some(to_name), inode)?;
        self.sweep();
        Ok(())
    }

    /// Whether `inner` is `outer` or somewhere below it.
    fn contains(&self, outer: InodeId, inner: InodeId) -> bool {
        outer == inner
            || self
                .directory(outer)
                .is_ok_and(|directory| directory.visible.values().any(|child| self.contains(*child, inner)))
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.resolve(path)?;
        if self.is_dir(inode) {
            return Err(Errno::ISDIR.into());
        }
        let name = self.resolve_parent(path)?;
        self.change(Some(name), None, inode)?;
        self.sweep();
        Ok(())
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.resolve(path)?;
        self.directory(inode)?;
        let name = self.resolve_parent(path)?;
        self.remove_children(inode)?;
        self.change(Some(name), None, inode)?;
        self.sweep();
        Ok(())
    }

    fn remove_children(&mut self, directory: InodeId) -> io::Result<()> {
        let children: Vec<(String, InodeId)> =
            self.directory(directory)?.visible.iter().map(|(name, inode)| (name.clone(), *inode)).collect();
        for (name, inode) in children {
            if self.is_dir(inode) {
                self.remove_children(inode)?;
            }
            self.change(Some((directory, name)), None, inode)?;
        }
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let directory = self.resolve(path)?;
        self.directory(directory)?;
        for change in &mut self.pending {
            change.unsynced.remove(&directory);
        }
        let keep: Vec<bool> = self.pending.iter().map(|change| change.unsynced.is_empty()).collect();
        let (durable, pending) = self.take_with_causes(keep);
        self.pending = pending;
        self.make_durable(durable);
        Ok(())
    }

    /// Parts the pending changes: the wanted ones with every earlier one of the same names, and the rest.
    fn take_with_causes(&mut self, mut wanted: Vec<bool>) -> (Vec<Change>, Vec<Change>) {
        let mut names: BTreeSet<&Name> = BTreeSet::new();
        for (change, wanted) in self.pending.iter().zip(&mut wanted).rev() {
            *wanted = *wanted || change.names().any(|name| names.contains(name));
            if *wanted {
                names.extend(change.names());
            }
        }
        let mut parts = (Vec::new(), Vec::new());
        for (change, wanted) in std::mem::take(&mut self.pending).into_iter().zip(wanted) {
            if wanted { parts.0.push(change) } else { parts.1.push(change) }
        }
        parts
    }

    fn make_durable(&mut self, changes: Vec<Change>) {
        for change in changes {
            // The directory itself may be gone for good; then so are its names.
            if let Some((directory, name)) = &change.removed
                && let Ok(directory) = self.directory_mut(*directory)
            {
                directory.durable.remove(name);
            }
            if let Some((directory, name)) = change.made
                && let Ok(directory) = self.directory_mut(directory)
            {
                directory.durable.insert(name, change.inode);
            }
        }
    }

    pub(super) fn lose_power(&mut self, loss: PowerLoss, random: &mut Random) -> AtRisk {
        let names = self.pending.len();
        let keep: Vec<bool> = match loss {
            PowerLoss::LoseUnsynced => vec![false; names],
            PowerLoss::KeepUnsynced => vec![true; names],
            // Journalling file systems keep a prefix, older ones anything.
            PowerLoss::Arbitrary { .. } if random.coin() => {
                let kept = random.below(names as u64 + 1) as usize;
                (0..names).map(|number| number < kept).collect()
            }
            PowerLoss::Arbitrary { .. } => (0..names).map(|_| random.coin()).collect(),
        };
        let (survivors, _) = self.take_with_causes(keep);
        self.make_durable(survivors);
        let (mut files, mut torn_pages) = (0, 0);
        for inode in self.inodes.values_mut() {
            match &mut inode.node {
                Node::Directory(directory) => directory.visible = directory.durable.clone(),
                Node::File(content) => {
                    files += u64::from(content.is_dirty());
                    torn_pages += content.lose_power(loss, random);
                }
            }
        }
        self.close_all();
        AtRisk { files, names: names as u64, torn_pages }
    }

    pub(super) fn opened(&mut self, inode: InodeId) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.handles += 1;
        }
    }

    pub(super) fn closed(&mut self, inode: InodeId) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.handles = inode.handles.saturating_sub(1);
        }
    }

    /// The processes that had files open are gone.
    pub(super) fn close_all(&mut self) {
        for inode in self.inodes.values_mut() {
            inode.handles = 0;
        }
        self.sweep();
    }

    pub(super) fn allocated_pages(&self) -> u64 {
        let open = self.inodes.iter().filter(|(_, inode)| inode.handles > 0).map(|(id, _)| *id);
        let used = self.reachable(open.collect(), false);
        let pages = used.iter().map(|id| match self.inodes.get(id).map(|inode| &inode.node) {
            Some(Node::File(content)) => content.allocated_pages(),
            Some(Node::Directory(_)) | None => 0,
        });
        pages.sum()
    }

    /// Forgets files and directories that no name, handle or power loss can bring back.
    fn sweep(&mut self) {
        let mut starts: Vec<InodeId> = Vec::new();
        for change in &self.pending {
            starts.push(change.inode);
            starts.extend(change.names().map(|(directory, _)| *directory));
        }
        starts.extend(self.inodes.iter().filter(|(_, inode)| inode.handles > 0).map(|(id, _)| *id));
        let live = self.reachable(starts, true);
        self.inodes.retain(|id, _| live.contains(id));
    }

    fn reachable(&self, mut unvisited: Vec<InodeId>, with_durable: bool) -> BTreeSet<InodeId> {
        unvisited.push(ROOT);
        let mut reached = BTreeSet::new();
        while let Some(id) = unvisited.pop() {
            if !reached.insert(id) {
                continue;
            }
            if let Ok(directory) = self.directory(id) {
                unvisited.extend(directory.visible.values());
                if with_durable {
                    unvisited.extend(directory.durable.values());
                }
            }
        }
        reached
    }
}
