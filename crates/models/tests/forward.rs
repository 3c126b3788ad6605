//! Logits of tiny random models against the same arithmetic in f64.

mod common;
mod rounding;

use common::{Tiny, tokens, worst};
use mlx_rs::Array;
use mlx_rs::ops::indexing::IndexOp;
use models::layers::{LayerAdapter, Rows};
use models::{Adapter, Error, Model, WeightResidency};
use rounding::tolerance;

/// f32 rounding through three layers, relative to the largest logit.
const F32: f64 = 2e-6;

#[test]
fn dense_models_agree() {
    for (name, tiny) in [("tied", Tiny::new(1)), ("untied, interleaved", Tiny::untied(2))] {
        let folder = tempfile::tempdir().unwrap();
        tiny.write(folder.path());
        let model = Model::open(folder.path()).unwrap();
        let tokens = tokens(3, 17, tiny.vocab);
        let logits = model.logits(&tokens, &Adapter::none(&model)).unwrap();
        let worst = worst(&logits, &tiny.logits(&tokens));
        assert!(worst < tolerance(&model, F32), "{name}: {worst:e}");
    }
}

#[test]
fn quantized_models_agree_however_they_lie_in_memory() {
    for group in [32, 64] {
        let folder = tempfile::tempdir().unwrap();
        // Every width a multiple of the larger group.
        let mut tiny = Tiny { hidden: 64, head_dim: 32, ..Tiny::new(4) }.redrawn(4);
        tiny.write_quantized(folder.path(), group);
        let several = tokens(5, 20, tiny.vocab);
        // On a CPU, few rows are multiplied with the packed weights.
        let few = &several[..3];
        let expected = [tiny.logits(&several), tiny.logits(few)];
        use WeightResidency::{Dequantized, Packed, PackedAndDequantized, Streamed};
        let (mut found, mut native, mut in_f32) = (Vec::new(), false, true);
        let mut dense = Vec::new();
        let bytes = [Streamed, Packed, PackedAndDequantized, Dequantized].map(|residency| {
            let model = Model::open_with(folder.path(), residency).unwrap();
            for (tokens, expected) in [&several[..], few].into_iter().zip(&expected) {
                let logits = model.logits(tokens, &Adapter::none(&model)).unwrap();
                let (worst, count) = (worst(&logits, expected), tokens.len());
                assert!(
                    worst < tolerance(&model, F32),
                    "group {group}, {residency:?}, {count} tokens: {worst:e}"
                );
                found.push(logits.as_slice::<f32>().to_vec());
            }
            let trained = model.with_dense_products().unwrap();
            let logits = trained.logits(few, &Adapter::none(&trained)).unwrap();
            dense.push(logits.as_slice::<f32>().to_vec());
            (native, in_f32) = (model.computes_packed(), rounding::in_f32(&model));
            model.weight_bytes()
        });
        let smaller = if in_f32 { 4 } else { 2 };
        assert!(bytes[0] == 0 && bytes[1] * smaller < bytes[3], "{bytes:?}");
        assert_eq!(bytes[2], bytes[1] + bytes[3]);
        // The same arithmetic on the same numbers; kernels of a device multiply packed weights as they are.
        assert!(found[..2] == found[2..4]);
        if !native {
            assert!(found[2..4] == found[4..6]);
            // Few rows with dequantized weights are summed in another order.
            assert!(found[4] == found[6]);
            // As a model is trained, it does not matter where weights are.
            assert!(dense.iter().all(|logits| *logits == found[7]));
        }
    }
}

#[test]
fn rows_laid_end_to_end_do_not_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny::new(6);
    tiny.write(folder.path());
    let model = Model::open(folder.path()).unwrap();
    let adapter = Adapter::none(&model);
    let rows: Vec<Vec<u32>> =
        [5, 1, 9, 5].iter().zip(7..).map(|(&n, seed)| tokens(seed, n, tiny.vocab)).collect();
    let layout = Rows::new(rows.iter().map(Vec::len).collect::<Vec<_>>()).unwrap();
    let hidden = model.hidden(&rows.concat(), &layout, &adapter).unwrap();
    let logits = model.head().logits(&hidden, adapter.embeddings()).unwrap().index(0);
    let expected: Vec<Vec<f64>> = rows.iter().flat_map(|row| tiny.logits(row)).collect();
    let worst = worst(&logits, &expected);
    assert!(worst < tolerance(&model, F32), "{worst:e}");
}

#[test]
fn rows_that_begin_alike_are_as_if_each_were_alone() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny::new(12);
    tiny.write(folder.path());
    let model = Model::open(folder.path()).unwrap();
    let adapter = Adapter::none(&model);
    let all = tokens(13, 20, tiny.vocab);
    let (first, second) = ([&all[..9], &all[9..12]].concat(), [&all[..9], &all[12..20]].concat());
    let rows = [&first, &second[..11], &all[15..19], &second, &all[..4]];
    let (layout, laid) = Rows::with_shared_prefixes(&rows).unwrap();
    assert_eq!(laid.len(), 12 + 2 + 4 + 6);
    let hidden = model.hidden(&laid, &layout, &adapter).unwrap();
    let logits = model.head().logits(&hidden, adapter.embeddings()).unwrap().index(0);
    for (index, row) in rows.iter().enumerate() {
        let places: Vec<u32> = layout.places(index).map(|place| place as u32).collect();
        let places = Array::from_slice(&places, &[row.len() as i32]);
        let worst = worst(&logits.take_axis(places, 0).unwrap(), &tiny.logits(row));
        assert!(worst < tolerance(&model, F32), "row {index}: {worst:e}");
    }
}

#[test]
fn the_parts_of_the_head_make_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny::untied(8);
    tiny.write(folder.path());
    let model = Model::open(folder.path()).unwrap();
    let tokens = tokens(9, 4, tiny.vocab);
    let rows = Rows::new([4]).unwrap();
    let hidden = model.hidden(&tokens, &rows, &Adapter::none(&model)).unwrap();
    let head = model.head();
    let normalized = head.normalize(&hidden).unwrap();
    let whole = head.logits(&hidden, &LayerAdapter::default()).unwrap();
    for range in [0..10, 10..96] {
        let chunk = normalized.matmul(head.weight(range.clone()).unwrap().t()).unwrap();
        let expected = whole.index((.., .., range.start as i32..range.end as i32));
        let relative = tolerance(&model, 1e-5);
        assert!(chunk.all_close(&expected, relative, relative / 10.0, None).unwrap());
    }
}

#[test]
fn tokens_and_rows_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new(10).write(folder.path());
    let model = Model::open(folder.path()).unwrap();
    let adapter = Adapter::none(&model);
    let error = model.logits(&[3, 96], &adapter).unwrap_err();
    assert!(matches!(error, Error::Token { token: 96, position: 1, vocab_size: 96 }), "{error}");
    assert!(model.logits(&[], &adapter).is_err());
    assert!(model.embed(&[1, 2, 3], &Rows::new([1, 1]).unwrap(), adapter.embeddings()).is_err());
    for lengths in [vec![], vec![3, 0], vec![usize::MAX, 2]] {
        assert!(Rows::new(lengths).is_err());
    }
}

#[test]
fn layers_can_be_held_each_in_its_own_way() {
    use WeightResidency::{Dequantized, Packed, Streamed};
    let folder = tempfile::tempdir().unwrap();
    let mut tiny = Tiny { hidden: 64, head_dim: 32, ..Tiny::untied(4) }.redrawn(4);
    tiny.write_quantized(folder.path(), 32);
    let tokens = tokens(5, 11, tiny.vocab);
    let streamed = Model::open_with(folder.path(), Streamed).unwrap();
    let streamed = streamed.with_dense_products().unwrap();
    let expected = streamed.logits(&tokens, &Adapter::none(&streamed)).unwrap();
    let mixed = streamed.with_weights(Packed, &[Streamed, Packed, Dequantized]).unwrap();
    let held: Vec<_> = mixed.layers().iter().map(|layer| layer.residency()).collect();
    assert_eq!(held, [Streamed, Packed, Dequantized]);
    // Whether somebody asked for a layer ahead or not, and however often.
    for asked in [0, 1, 2] {
        for layer in mixed.layers() {
            (0..asked).for_each(|_| layer.read_ahead());
        }
        let logits = mixed.logits(&tokens, &Adapter::none(&mixed)).unwrap();
        if mixed.computes_packed() {
            // The dequantized layer rounds otherwise than the packed ones.
            let largest = expected.abs().unwrap().max(None).unwrap().item_exact::<f32>();
            let most = tolerance(&mixed, F32) * f64::from(largest);
            assert!(logits.all_close(&expected, 0.0, most, None).unwrap());
        } else {
            assert_eq!(logits.as_slice::<f32>(), expected.as_slice::<f32>());
        }
    }
}

#[test]
fn a_streamed_layer_whose_file_is_gone_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new(4).write(folder.path());
    let model = Model::open_with(folder.path(), WeightResidency::Streamed).unwrap();
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let error = model.logits(&[1, 2], &Adapter::none(&model)).unwrap_err();
    assert!(error.to_string().contains("model.safetensors"), "{error}");
}
