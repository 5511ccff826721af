//! What every disk does while nothing fails.

use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use ottla_rt::{DirEntry, Disk, DiskFile, OpenMode};

/// `root` is an empty directory.
pub async fn check(disk: &dyn Disk, root: &Path) {
    let fresh = |name: &str| {
        let directory = root.join(name);
        disk.create_dir_all(&directory).unwrap();
        directory
    };
    open_modes(disk, &fresh("open-modes"));
    positions(disk, &fresh("positions"));
    scans(disk, &fresh("scans"));
    resident(disk, &fresh("resident"));
    many_buffers(disk, &fresh("many-buffers"));
    lengths(disk, &fresh("lengths"));
    handles_share_a_file(disk, &fresh("handles"));
    directories(disk, &fresh("directories"));
    renames(disk, &fresh("renames"));
    removed_files_stay_open(disk, &fresh("removed"));
    whole_files(disk, &fresh("whole-files"));
    locks(disk, &fresh("locks"));
    syncs(disk, &fresh("syncs")).await;
    let space = disk.space(root).unwrap();
    assert!(space.available > 0 && space.available <= space.total, "{space:?}");
}

fn write(file: &dyn DiskFile, bytes: &[u8], position: u64) {
    file.write_all_at(&[IoSlice::new(bytes)], position).unwrap();
}

fn content(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    disk.read_file(path, 1 << 20).unwrap()
}

fn make(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    write(disk.open(path, OpenMode::CreateNew).unwrap().as_ref(), bytes, 0);
}

fn names(disk: &dyn Disk, path: &Path) -> Vec<String> {
    disk.read_dir(path).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn scans(disk: &dyn Disk, root: &Path) {
    let path = root.join("file");
    assert_eq!(disk.open_for_scan(&path).err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    make(disk, &path, &bytes);
    let file = disk.open_for_scan(&path).unwrap();
    // Once as it was written, and once as it is when it had to be read.
    for _ in 0..2 {
        let mut found = vec![0; 200_001];
        file.read_exact_at(&mut found, 99_999).unwrap();
        assert!(found == bytes[99_999..]);
        assert_eq!(file.read_at(&mut found, 300_000).unwrap(), 0);
    }
    assert_eq!(file.len().unwrap(), 300_000);
    assert!(file.write_at(&[IoSlice::new(b"no")], 0).is_err());
    assert!(file.set_len(0).is_err());
}

/// A disk may be unable to tell what is in the cache; it must not tell anything wrong.
fn resident(disk: &dyn Disk, root: &Path) {
    let file = disk.open(&root.join("file"), OpenMode::CreateNew).unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    write(file.as_ref(), &bytes, 0);
    file.make_resident(0, bytes.len()).unwrap();
    let mut found = vec![0; 1_000];
    for position in [0, 99_999, 299_500, 300_000] {
        if let Ok(count) = file.read_resident_at(&mut found, position as u64) {
            assert!(count <= (bytes.len() - position).min(found.len()));
            assert!(found[..count] == bytes[position..position + count]);
        }
    }
    assert!(!file.is_resident(0, bytes.len()) || file.read_resident_at(&mut found, 0).is_ok());
}

fn open_modes(disk: &dyn Disk, root: &Path) {
    let path = root.join("file");
    let error = |mode| disk.open(&path, mode).err().map(|error| error.kind());
    assert_eq!(error(OpenMode::Read), Some(ErrorKind::NotFound));
    assert_eq!(error(OpenMode::ReadWrite), Some(ErrorKind::NotFound));
    assert!(!disk.exists(&path).unwrap());
    assert_eq!(error(OpenMode::CreateOrOpen), None);
    assert!(disk.exists(&path).unwrap());
    assert_eq!(error(OpenMode::CreateNew), Some(ErrorKind::AlreadyExists));

    write(disk.open(&path, OpenMode::ReadWrite).unwrap().as_ref(), b"kept", 0);
    assert_eq!(disk.open(&path, OpenMode::CreateOrOpen).unwrap().len().unwrap(), 4, "opening truncates nothing");
    let reader = disk.open(&path, OpenMode::Read).unwrap();
    assert!(reader.write_at(&[IoSlice::new(b"no")], 0).is_err());
    assert!(reader.set_len(0).is_err());
    assert_eq!(content(disk, &path), b"kept");

    let orphan = root.join("missing").join("file");
    assert_eq!(disk.open(&orphan, OpenMode::CreateOrOpen).err().map(|it| it.kind()), Some(ErrorKind::NotFound));
    assert!(disk.open(&path.join("below a file"), OpenMode::CreateOrOpen).is_err());
    assert!(disk.open(root, OpenMode::ReadWrite).is_err());
}

fn positions(disk: &dyn Disk, root: &Path) {
    let file = disk.open(&root.join("file"), OpenMode::CreateNew).unwrap();
    assert!(file.is_empty().unwrap());
    let mut buffer = [7; 4];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);

    write(file.as_ref(), b"far", 10_000);
    assert_eq!(file.len().unwrap(), 10_003);
    let mut all = vec![1; 10_003];
    file.read_exact_at(&mut all, 0).unwrap();
    assert!(all[..10_000].iter().all(|byte| *byte == 0), "a hole reads as zeros");
    assert_eq!(&all[10_000..], b"far");

    write(file.as_ref(), b"across a page border", 4090);
    let mut part = [0; 20];
    file.read_exact_at(&mut part, 4090).unwrap();
    assert_eq!(&part, b"across a page border");
    assert_eq!(file.len().unwrap(), 10_003);

    let end = file.read_exact_at(&mut [0; 4], 10_000).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
    write(file.as_ref(), b"", 20_000);
    assert_eq!(file.len().unwrap(), 10_003, "writing nothing extends nothing");
}

fn many_buffers(disk: &dyn Disk, root: &Path) {
    let file = disk.open(&root.join("file"), OpenMode::CreateNew).unwrap();
    // More than one system call takes, with empty ones in between.
    let parts: Vec<Vec<u8>> = (0..5000_usize).map(|number| vec![number as u8; number % 4]).collect();
    let buffers: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    file.write_all_at(&buffers, 3).unwrap();
    let expected: Vec<u8> = [0; 3].into_iter().chain(parts.concat()).collect();
    assert_eq!(content(disk, &root.join("file")), expected);
    file.write_all_at(&[], 0).unwrap();
    file.write_all_at(&[IoSlice::new(b"")], 0).unwrap();
}

fn lengths(disk: &dyn Disk, root: &Path) {
    let path = root.join("file");
    let file = disk.open(&path, OpenMode::CreateNew).unwrap();
    write(file.as_ref(), &[9; 9000], 0);
    file.set_len(5).unwrap();
    assert_eq!(content(disk, &path), [9; 5]);
    file.set_len(9000).unwrap();
    let all = content(disk, &path);
    assert_eq!(all.len(), 9000);
    assert_eq!(&all[..5], [9; 5]);
    assert!(all[5..].iter().all(|byte| *byte == 0), "what was cut does not come back");
    file.set_len(0).unwrap();
    assert!(file.is_empty().unwrap());
}

fn handles_share_a_file(disk: &dyn Disk, root: &Path) {
    let path = root.join("file");
    let writer = disk.open(&path, OpenMode::CreateNew).unwrap();
    let reader = disk.open(&path, OpenMode::Read).unwrap();
    write(writer.as_ref(), b"seen at once", 0);
    let mut buffer = [0; 12];
    reader.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"seen at once");
}

fn directories(disk: &dyn Disk, root: &Path) {
    let deep = root.join("a").join("b").join("c");
    disk.create_dir_all(&deep).unwrap();
    disk.create_dir_all(&deep).unwrap();
    make(disk, &root.join("z"), b"12345");
    make(disk, &root.join("B"), b"");
    let entry = |name: &str, is_dir, len| DirEntry { name: name.to_owned(), is_dir, len };
    let expected = vec![entry("B", false, 0), entry("a", true, 0), entry("z", false, 5)];
    assert_eq!(disk.read_dir(root).unwrap(), expected);
    assert_eq!(disk.read_dir(&deep).unwrap(), []);
    assert_eq!(disk.read_dir(&root.join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(disk.read_dir(&root.join("z")).is_err());
    assert!(disk.create_dir_all(&root.join("z").join("below a file")).is_err());
    disk.sync_dir(root).unwrap();
    assert_eq!(disk.sync_dir(&root.join("none")).unwrap_err().kind(), ErrorKind::NotFound);

    make(disk, &deep.join("inner"), b"x");
    assert!(disk.remove_file(&root.join("a")).is_err(), "a directory is not removed as a file");
    disk.remove_dir_all(&root.join("a")).unwrap();
    assert_eq!(names(disk, root), ["B", "z"]);
    assert_eq!(disk.remove_dir_all(&root.join("a")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.remove_file(&root.join("a")).unwrap_err().kind(), ErrorKind::NotFound);
}

fn renames(disk: &dyn Disk, root: &Path) {
    let at = |name: &str| root.join(name);
    make(disk, &at("one"), b"1");
    make(disk, &at("two"), b"2");
    let open = disk.open(&at("one"), OpenMode::ReadWrite).unwrap();
    disk.rename(&at("one"), &at("two")).unwrap();
    assert_eq!(names(disk, root), ["two"]);
    write(open.as_ref(), b"moved", 0);
    assert_eq!(content(disk, &at("two")), b"moved", "an open file keeps its identity");

    disk.create_dir_all(&at("dir/sub")).unwrap();
    make(disk, &at("dir/sub/file"), b"deep");
    let open = disk.open(&at("dir/sub/file"), OpenMode::ReadWrite).unwrap();
    disk.rename(&at("dir"), &at("dir-delete")).unwrap();
    assert_eq!(content(disk, &at("dir-delete/sub/file")), b"deep");
    write(open.as_ref(), b"DEEP", 0);
    assert_eq!(content(disk, &at("dir-delete/sub/file")), b"DEEP");
    disk.rename(&at("two"), &at("dir-delete/two")).unwrap();
    assert_eq!(names(disk, root), ["dir-delete"]);
    assert_eq!(names(disk, &at("dir-delete")), ["sub", "two"]);

    let kind = |from: &str, to: &str| disk.rename(&at(from), &at(to)).unwrap_err().kind();
    assert_eq!(kind("none", "other"), ErrorKind::NotFound);
    assert_eq!(kind("dir-delete/two", "none/other"), ErrorKind::NotFound);
    assert_eq!(kind("dir-delete/two", "dir-delete/sub"), ErrorKind::IsADirectory);
    disk.create_dir_all(&at("empty")).unwrap();
    assert_eq!(kind("empty", "dir-delete/sub"), ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind("empty", "dir-delete/two"), ErrorKind::NotADirectory);
    assert_eq!(kind("dir-delete", "dir-delete/sub/inside"), ErrorKind::InvalidInput);
    disk.rename(&at("dir-delete"), &at("empty")).unwrap();
    assert_eq!(names(disk, root), ["empty"]);
    disk.rename(&at("empty"), &at("empty")).unwrap();
    assert_eq!(names(disk, &at("empty")), ["sub", "two"]);
}

fn removed_files_stay_open(disk: &dyn Disk, root: &Path) {
    let path = root.join("file");
    make(disk, &path, b"old");
    let old = disk.open(&path, OpenMode::ReadWrite).unwrap();
    disk.remove_file(&path).unwrap();
    assert!(!disk.exists(&path).unwrap());
    make(disk, &path, b"new");
    write(old.as_ref(), b"OLD", 0);
    let mut buffer = [0; 3];
    old.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"OLD");
    assert_eq!(content(disk, &path), b"new");
    old.sync_data().unwrap();
}

fn whole_files(disk: &dyn Disk, root: &Path) {
    let path = root.join("checkpoint");
    disk.write_file_atomically(&path, b"a longer first content").unwrap();
    disk.write_file_atomically(&path, b"second").unwrap();
    assert_eq!(content(disk, &path), b"second");
    assert_eq!(names(disk, root), ["checkpoint"]);
    // What a crash in between leaves behind does not get into the next content.
    make(disk, &root.join("checkpoint.tmp"), b"left over from a crash");
    disk.write_file_atomically(&path, b"third").unwrap();
    assert_eq!(content(disk, &path), b"third");
    assert_eq!(disk.read_file(&path, 5).unwrap(), b"third");
    assert_eq!(disk.read_file(&path, 4).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(disk.read_file(&root.join("none"), 4).unwrap_err().kind(), ErrorKind::NotFound);
}

fn locks(disk: &dyn Disk, root: &Path) {
    let path = root.join(".lock");
    let held = disk.lock(&path).unwrap();
    assert!(disk.exists(&path).unwrap());
    assert_eq!(disk.lock(&path).err().map(|error| error.kind()), Some(ErrorKind::WouldBlock));
    let other = disk.lock(&root.join("other")).unwrap();
    drop(held);
    let again = disk.lock(&path).unwrap();
    drop((other, again));
}

async fn syncs(disk: &dyn Disk, root: &Path) {
    let paths: Vec<PathBuf> = (0..40).map(|number| root.join(format!("{number}"))).collect();
    let mut files = Vec::new();
    for path in &paths {
        let file = disk.open(path, OpenMode::CreateNew).unwrap();
        write(file.as_ref(), b"bytes", 0);
        files.push(file);
    }
    files[0].sync_data().unwrap();
    files[0].sync_all().unwrap();
    let results = disk.sync_files(files.clone()).await;
    assert_eq!(results.len(), files.len());
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert!(disk.sync_files(Vec::new()).await.is_empty());
    disk.sync_dir(root).unwrap();
    for path in &paths {
        assert_eq!(content(disk, path), b"bytes");
    }
}
