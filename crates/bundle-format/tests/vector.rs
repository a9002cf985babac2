//! What `docs/bundle-format.md` shows is what is written and read.

#[cfg(test)]
mod vector {
    use std::io::Read as _;
    use std::path::Path;

    use bundle_format::{
        BaseBundle, BundleManifest, BundlePlan, BundleReader, BundleWriter, Container, EntryPath,
        EntryRecord, Limits, OCI_LAYOUT, OutputFile, StreamName, index_descriptors, index_json,
    };
    use oci_content::{Capability, Descriptor, Digest, DiscoveryMethod, Reference, media_type};
    use oci_content::{DiscoveryRecord, ImageRecord, SourceRepository};

    type Files = Vec<(EntryPath, Vec<u8>)>;

    fn document() -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/bundle-format.md");
        std::fs::read_to_string(path).unwrap()
    }

    /// Returns the fenced block that follows a line which ends in `title`.
    fn block(document: &str, title: &str) -> String {
        let mut lines = document.lines().skip_while(|line| !line.ends_with(title));
        let fenced = lines
            .by_ref()
            .skip_while(|line| !line.starts_with("```"))
            .skip(1);
        let lines: Vec<_> = fenced.take_while(|line| !line.starts_with("```")).collect();
        assert!(!lines.is_empty(), "{title}");
        lines.join("\n") + "\n"
    }

    /// Reads the form of `hexdump -C`: offset, sixteen bytes, the same as text; a star repeats the line before it.
    fn undump(dump: &str) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::new();
        for line in dump.lines().filter(|line| *line != "*") {
            let mut parts = line.split_whitespace();
            let offset = usize::from_str_radix(parts.next().unwrap(), 16).unwrap();
            while bytes.len() < offset {
                bytes.extend_from_within(bytes.len() - 16..);
            }
            let hex = line.split('|').next().unwrap().split_whitespace().skip(1);
            bytes.extend(hex.map(|byte| u8::from_str_radix(byte, 16).unwrap()));
        }
        bytes
    }

    /// An image without layers that nothing refers to.
    fn bundle() -> (BundleManifest, Files) {
        let config = b"{}".to_vec();
        let image = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":2}},"layers":[]}}"#,
            media_type::IMAGE_MANIFEST,
            media_type::EMPTY,
            Digest::of(&config)
        );
        let image = image.into_bytes();
        let (digest, size) = (Digest::of(&image), image.len() as u64);
        let reference: Reference = "registry.example.com/empty:1.0".parse().unwrap();
        let repository = SourceRepository::from(&reference);
        let mut manifest = BundleManifest::new(StreamName::default(), 0);
        let record = ImageRecord::new(reference, digest.clone(), media_type::IMAGE_MANIFEST, size);
        manifest.graph.images.push(record);
        manifest.graph.discovery.push(DiscoveryRecord::new(
            repository,
            digest.clone(),
            Capability::Supported,
            DiscoveryMethod::Native,
        ));
        let index = index_json(&index_descriptors(
            &manifest.graph.images,
            &manifest.graph.discovery,
        ));
        let files = vec![
            (EntryPath::OCI_LAYOUT, OCI_LAYOUT.to_vec()),
            (EntryPath::INDEX, index),
            (EntryPath::blob(&Digest::of(&config)).unwrap(), config),
            (EntryPath::blob(&digest).unwrap(), image),
        ];
        let entries = files.iter();
        manifest.entries = entries
            .map(|(path, bytes)| EntryRecord::of(path.clone(), bytes))
            .collect();
        manifest.settle(1);
        (manifest, files)
    }

    /// An image with these layers that nothing refers to, whose layers that `base` holds are left out.
    fn layered(tag: &str, layers: &[&str], base: Option<&BaseBundle>) -> (BundleManifest, Files) {
        let config = b"{}".to_vec();
        let listed: Vec<_> = layers
            .iter()
            .map(|layer| Descriptor::of("application/vnd.oci.image.layer.v1.tar", layer.as_bytes()))
            .map(|layer| serde_json::to_string(&layer).unwrap())
            .collect();
        let image = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":2}},"layers":[{}]}}"#,
            media_type::IMAGE_MANIFEST,
            media_type::EMPTY,
            Digest::of(&config),
            listed.join(",")
        );
        let image = image.into_bytes();
        let (digest, size) = (Digest::of(&image), image.len() as u64);
        let reference: Reference = format!("registry.example.com/app:{tag}").parse().unwrap();
        let mut manifest = BundleManifest::new(StreamName::default(), 0);
        manifest.base = base.map(|base| base.digest().clone());
        manifest.graph.discovery.push(DiscoveryRecord::new(
            SourceRepository::from(&reference),
            digest.clone(),
            Capability::Supported,
            DiscoveryMethod::Native,
        ));
        let record = ImageRecord::new(reference, digest, media_type::IMAGE_MANIFEST, size);
        manifest.graph.images.push(record);
        let index = index_json(&index_descriptors(
            &manifest.graph.images,
            &manifest.graph.discovery,
        ));
        let mut files = vec![
            (EntryPath::OCI_LAYOUT, OCI_LAYOUT.to_vec()),
            (EntryPath::INDEX, index),
        ];
        let layers = layers.iter().map(|layer| layer.as_bytes().to_vec());
        for bytes in [config, image].into_iter().chain(layers) {
            let path = EntryPath::blob(&Digest::of(&bytes)).unwrap();
            let mut entry = EntryRecord::of(path.clone(), &bytes);
            let is_layer = bytes.first() != Some(&b'{');
            entry.base = is_layer && base.is_some_and(|base| base.holds(&entry.sha256, entry.size));
            if entry.base {
                manifest.entries.push(entry)
            } else {
                files.push((path, bytes))
            }
        }
        let entries = files
            .iter()
            .map(|(path, bytes)| EntryRecord::of(path.clone(), bytes));
        manifest.entries.extend(entries);
        manifest.settle(1);
        (manifest, files)
    }

    /// Three images: the vector, one with a layer, and one with that layer and another, which is based on the second.
    fn contents(name: &str) -> (BundleManifest, Files) {
        let base = || layered("1.0", &["a layer\n"], None);
        match name.split_once('.').unwrap().0 {
            "vector" => bundle(),
            "base" => base(),
            _ => {
                let yaml = base().0.to_yaml().unwrap();
                let base = BaseBundle::parse(&yaml, &Limits::default()).unwrap();
                layered("1.1", &["a layer\n", "another\n"], Some(&base))
            }
        }
    }

    fn write(name: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join(name);
        let (manifest, files) = contents(name);
        let plan = BundlePlan::new(&manifest, Container::from_file_name(&target)).unwrap();
        let output = OutputFile::create(&target, false).unwrap();
        let writer = BundleWriter::new(plan, output.sink()).unwrap();
        for (path, bytes) in &files {
            writer.put(path, bytes).unwrap();
        }
        writer.finish().unwrap();
        output.publish().unwrap();
        std::fs::read(target).unwrap()
    }

    #[test]
    fn the_writer_makes_the_test_vector() {
        let expected = undump(&block(&document(), "### `vector.tgz`"));
        assert!(write("vector.tgz") == expected);
    }

    #[test]
    fn the_digests_of_the_test_vectors_are_the_documented_ones() {
        let sums = block(&document(), "### Digests of the vectors");
        for name in [
            "vector.tgz",
            "vector.tar",
            "base.tgz",
            "delta.tgz",
            "delta.tar",
        ] {
            let bytes = write(name);
            let line = format!("{}  {name}", Digest::of(&bytes).encoded());
            assert!(sums.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn the_reader_reads_the_test_vector() {
        let vector = undump(&block(&document(), "### `vector.tgz`"));
        let mut reader = BundleReader::new(&*vector, Limits::default());
        let (manifest, files) = bundle();
        let own = (EntryPath::MANIFEST, manifest.to_yaml().unwrap());
        let mut expected: Vec<_> = std::iter::once(own).chain(files).collect();
        expected.sort();
        let mut found = Vec::new();
        while let Some(head) = reader.next_entry().unwrap() {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            found.push((head.path, bytes));
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn the_delta_lists_what_the_document_shows() {
        let (manifest, files) = contents("delta.tgz");
        let shown = block(&document(), "### `manifest.yaml` of `delta.tgz`");
        let yaml = manifest.to_yaml().unwrap();
        assert_eq!(String::from_utf8(yaml).unwrap(), shown);
        // Of its two layers, only the one that the base has not.
        let layers = files.iter().filter(|(_, bytes)| bytes.ends_with(b"\n"));
        assert_eq!(
            layers.map(|(_, bytes)| &bytes[..]).collect::<Vec<_>>(),
            [b"another\n"]
        );
        assert_eq!(manifest.left_out().count(), 1);
    }

    #[test]
    fn the_sample_of_a_manifest_is_one() {
        let yaml = block(&document(), "### A sample");
        let manifest = BundleManifest::parse(yaml.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(
            (manifest.referrers.total, manifest.referrers.subjects),
            (3, 2)
        );
        assert_eq!(manifest.to_yaml().unwrap(), yaml.as_bytes());
    }
}
