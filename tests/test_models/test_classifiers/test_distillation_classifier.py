"""Distillation: the losses of the student, the inputs of the teacher, and separate weights."""

import sys
from copy import deepcopy

import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.model import ImgDataPreprocessor
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from safetensors.torch import save_file
from tiny_models import WIDTHS, classifier

from mmvitlin.curricula import EfficientTrainHook, TokenExpansionHook
from mmvitlin.errors import CheckpointError
from mmvitlin.models.teachers.frozen_teacher import FrozenTeacher, TeacherError

CLASSES, SIDE = 3, 16
VIT = dict(
    arch=dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16),
    img_size=SIDE,
    patch_size=4,
)
HEAD = dict(num_classes=CLASSES, init_cfg=dict(type='Normal', layer='Linear', std=0.5))
L2VIT = dict(backbone=classifier().backbone, neck=dict(type='GlobalAveragePooling'))
STUDENTS = {
    'LION': dict(
        backbone=dict(type='mmvitlin.LION', order='S', mask_type='Decay', pos_emb=True, **VIT),
        head=dict(HEAD, type='LinearClsHead', in_channels=8),
    ),
    'L2ViT': dict(L2VIT, head=dict(HEAD, type='LinearClsHead', in_channels=WIDTHS[-1])),
    'LV-ViT': dict(
        backbone=dict(
            type='mmvitlin.LVViT',
            mix_token=False,
            **VIT | dict(arch=dict(VIT['arch'], skip_lam=1.0, stem_channels=4)),
        ),
        head=dict(HEAD, type='mmvitlin.TokenLabelHead', in_channels=8),
    ),
    'ResNet': dict(
        backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(HEAD, type='LinearClsHead', in_channels=64),
    ),
    'DeiT with a distillation token': dict(
        backbone=dict(type='DistilledVisionTransformer', **VIT),
        head=dict(HEAD, type='DeiTClsHead', in_channels=8),
    ),
    'a head of LeViT': dict(L2VIT, head=dict(HEAD, type='LeViTClsHead', in_channels=WIDTHS[-1])),
    'a head of EfficientFormer': dict(
        L2VIT, head=dict(HEAD, type='EfficientFormerClsHead', in_channels=WIDTHS[-1])
    ),
    'Conformer, with two outputs': dict(
        backbone=dict(
            type='Conformer',
            arch=dict(embed_dims=8, depths=3, num_heads=2, channel_ratio=0.25),
            patch_size=16,
        ),
        head=dict(HEAD, type='ConformerHead', in_channels=[64, 8]),
    ),
    "ViG's head, which keeps no number of classes": dict(
        L2VIT, head=dict(type='VigClsHead', num_classes=CLASSES, in_channels=WIDTHS[-1])
    ),
    'a head with a loss of its own': dict(
        L2VIT, head=dict(HEAD, type='ArcFaceClsHead', in_channels=WIDTHS[-1])
    ),
}
DEIT = 'DeiT with a distillation token'
CONFORMER = 'Conformer, with two outputs'
TEACHER = dict(STUDENTS['ResNet'], type='ImageClassifier')  # with batch norms


@pytest.fixture(autouse=True)
def in_mmpretrain():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def build(cfg):
    torch.manual_seed(0)
    return MODELS.build(deepcopy(cfg))


@pytest.fixture
def teacher(tmp_path):
    """The arguments of a teacher whose weights are in a file."""
    model = build(TEACHER)
    model.init_weights()
    torch.save(model.state_dict(), tmp_path / 'teacher.pth')
    return dict(model=TEACHER, checkpoint=str(tmp_path / 'teacher.pth'))


def distilled(student, teacher, **settings):
    cfg = STUDENTS[student] if isinstance(student, str) else student
    return build(dict(cfg, type='mmvitlin.DistillationClassifier', teacher=teacher, **settings))


def batch(count=4, side=SIDE):
    torch.manual_seed(1)
    images = 255 * torch.rand(count, 3, side, side)
    return images, [DataSample().set_gt_label(index % CLASSES) for index in range(count)]


def outputs_of(model, images):
    """The logits for labels and for the teacher, of a student in training mode."""
    seen = []
    layers = model.head.layers
    handles = [
        layer.register_forward_hook(lambda *args: seen.append(args[-1]))
        for layer in (layers.head, layers.head_dist)
    ]
    model(images)
    for handle in handles:
        handle.remove()
    return seen


def test_a_student_that_mixes_images_inside_is_refused(teacher):
    student = deepcopy(STUDENTS['LV-ViT'])
    student['backbone']['mix_token'] = True
    with pytest.raises(ValueError, match='give the backbone mix_token=False'):
        distilled(student, teacher)
    distilled(student, teacher, distillation='none')


@pytest.mark.parametrize('kind', ['hard', 'soft'])
@pytest.mark.parametrize('student', STUDENTS)
def test_every_parameter_learns_and_the_log_tells_both_parts(student, kind, teacher):
    model = distilled(student, teacher, distillation=kind, tau=2.0)
    model.init_weights()
    images, samples = batch()
    loss, log = model.parse_losses(model.loss(images / 255, samples))
    assert log.keys() == {'loss', 'base_loss', 'distillation_loss'}
    assert log['base_loss'] + log['distillation_loss'] == loss
    assert min(log.values()) > 0
    loss.backward()
    names = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert names == []


@pytest.mark.parametrize('kind', ['hard', 'soft'])
def test_a_distillation_token_learns_from_the_teacher_and_the_class_token_from_labels(
    kind, teacher
):
    model = distilled(DEIT, teacher, distillation=kind, alpha=0.3, tau=2.0)
    model.init_weights()
    images, samples = batch()
    losses = model.loss(images, samples)
    classes, distillation = outputs_of(model, images)
    reference = build(TEACHER)
    reference.load_state_dict(torch.load(teacher['checkpoint']))
    reference.eval()
    labels = torch.cat([sample.gt_label for sample in samples])
    taught = reference(images)
    if kind == 'hard':
        expected = F.cross_entropy(distillation, taught.argmax(1))
    else:
        student, target = ((logits / 2).log_softmax(1) for logits in (distillation, taught))
        expected = 4 * (target.exp() * (target - student)).mean()
    torch.testing.assert_close(losses['base_loss'], 0.7 * F.cross_entropy(classes, labels))
    torch.testing.assert_close(losses['distillation_loss'], 0.3 * expected)


def test_a_student_without_that_token_learns_both_by_its_class_output(teacher):
    model = distilled('LION', teacher, alpha=0.25)
    model.init_weights()
    images, samples = batch()
    losses, logits = model.loss(images, samples), model(images)
    taught = model.teacher.logits(images, model.data_preprocessor).argmax(1)
    labels = torch.cat([sample.gt_label for sample in samples])
    torch.testing.assert_close(losses['base_loss'], 0.75 * F.cross_entropy(logits, labels))
    torch.testing.assert_close(losses['distillation_loss'], 0.25 * F.cross_entropy(logits, taught))


def test_conformer_learns_and_teaches_by_the_logits_that_it_predicts_by(tmp_path):
    model = build(dict(STUDENTS[CONFORMER], type='ImageClassifier'))
    model.init_weights()
    model.eval()
    torch.save(model.state_dict(), tmp_path / 'teacher.pth')
    images, samples = batch()
    taught = torch.stack([sample.pred_score for sample in model(images, mode='predict')])
    settings = dict(
        model=dict(STUDENTS[CONFORMER], type='ImageClassifier'),
        checkpoint=str(tmp_path / 'teacher.pth'),
    )
    same = distilled(CONFORMER, settings, distillation='soft')
    same.load_state_dict(model.state_dict())
    same.eval()
    losses = same.loss(images, samples)  # of a student that agrees with its teacher
    assert abs(losses['distillation_loss']) < 1e-6
    torch.testing.assert_close(losses['base_loss'], model.loss(images, samples)['loss'] / 2)
    logits = same.teacher.logits(images, same.data_preprocessor)
    torch.testing.assert_close(logits.softmax(1), taught)


@pytest.mark.parametrize('student', STUDENTS)
def test_it_predicts_as_the_plain_classifier_that_loads_its_weights_without_the_teacher(
    student, teacher
):
    model = distilled(student, dict(teacher, checkpoint='nowhere.pth'))
    plain = build(dict(STUDENTS[student], type='ImageClassifier'))
    plain.load_state_dict(model.state_dict())
    images, _ = batch()
    for built in (model, plain):
        built.eval()
    torch.testing.assert_close(model(images), plain(images), rtol=0, atol=0)
    scores = [
        torch.stack([sample.pred_score for sample in built(images, mode='predict')])
        for built in (model, plain)
    ]
    assert torch.equal(*scores)


def test_a_distillation_token_is_averaged_with_the_class_token_at_evaluation(teacher):
    model = distilled(DEIT, teacher)
    model.init_weights()
    model.eval()
    images, _ = batch()
    torch.testing.assert_close(model(images), sum(outputs_of(model, images)) / 2)


def test_without_distillation_it_trains_as_the_plain_classifier():
    settings = dict(STUDENTS['LION'])
    model = distilled(settings, dict(checkpoint='nowhere.pth'), distillation='none')
    plain = build(dict(settings, type='ImageClassifier'))
    plain.load_state_dict(model.state_dict())
    losses, expected = (built.loss(*batch()) for built in (model, plain))
    assert losses == expected
    model.init_weights()  # needs no teacher


# The teacher stays outside


def test_the_teacher_is_in_no_list_of_the_students(teacher):
    model = distilled('LION', teacher)
    model.init_weights()
    plain = build(dict(STUDENTS['LION'], type='ImageClassifier'))
    assert model.state_dict().keys() == plain.state_dict().keys()
    names = [name for name, _ in plain.named_parameters()]
    assert [name for name, _ in model.named_parameters()] == names
    assert [name for name, _ in model.named_buffers()] == [n for n, _ in plain.named_buffers()]
    assert len(list(model.modules())) == len(list(plain.modules()))
    optimizer = build_optim_wrapper(model, dict(optimizer=dict(type='AdamW', lr=1.0))).optimizer
    assert sum(len(group['params']) for group in optimizer.param_groups) == len(names)


def test_training_leaves_the_teacher_as_it_was_read_and_in_evaluation_mode(teacher):
    model = distilled('LION', teacher)
    model.init_weights()
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='AdamW', lr=0.1)))
    images, samples = batch()
    data = dict(inputs=images, data_samples=samples)
    for _ in range(2):
        model.train()
        model.train_step(data, wrapper)
    frozen = model.teacher._classifier
    assert not any(module.training for module in frozen.modules())
    assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())
    expected = torch.load(teacher['checkpoint'])
    assert all(torch.equal(value, expected[name]) for name, value in frozen.state_dict().items())


def test_copies_share_the_teacher_even_one_made_before_it_was_read(teacher):
    model = distilled('LION', teacher)
    copied = deepcopy(model)
    model.init_weights()
    assert copied.teacher is model.teacher
    assert copied.loss(*batch())['distillation_loss'] > 0


def test_the_teacher_follows_the_images_to_their_device_and_type(teacher):
    model = distilled('LION', teacher)
    model.init_weights()
    assert model.double().loss(batch()[0].double(), batch()[1])['base_loss'].dtype == (
        torch.float64
    )
    logits = model.teacher.logits(batch()[0].to('meta'), model.data_preprocessor)
    assert logits.device.type == 'meta'
    assert {value.device.type for value in model.teacher._classifier.parameters()} == {'meta'}


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_a_student_of_another_precision_has_its_teacher_in_single(dtype, teacher):
    model = distilled('L2ViT', dict(teacher, data_preprocessor=IMAGENET), data_preprocessor=DIGITS)
    model.init_weights()
    images = batch()[0] / 127.5 - 1
    expected = model.teacher.logits(images, model.data_preprocessor)
    model.to(dtype)
    logits = model.teacher.logits(images.to(dtype), model.data_preprocessor)
    assert logits.dtype == dtype
    assert {value.dtype for value in model.teacher._classifier.parameters()} == {torch.float32}
    tolerance = 1e-5 if dtype == torch.float64 else 0.05
    torch.testing.assert_close(logits.float(), expected, rtol=tolerance, atol=tolerance)


def test_the_teacher_answers_before_the_student_holds_activations(teacher):
    model = distilled('LION', teacher)
    model.init_weights()
    called = []
    for part in (model.teacher._classifier.backbone, model.backbone):
        part.register_forward_hook(lambda module, *_: called.append(type(module).__name__))
    model.loss(*batch())
    assert called == ['ResNet', 'LION']


def test_mixed_precision_trains(teacher):
    model = distilled(DEIT, teacher, distillation='soft')
    model.init_weights()
    images, samples = batch()
    with torch.autocast('cpu', torch.bfloat16):
        loss, _ = model.parse_losses(model.loss(images / 255, samples))
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_the_student_starts_and_goes_on_with_the_same_random_numbers(teacher):
    """A seed trains the same student with and without a teacher, except for the targets."""
    states = []
    for kind in ('none', 'hard'):
        model = distilled('LION', teacher, distillation=kind)
        model.init_weights()
        states.append({**model.state_dict(), 'random': torch.get_rng_state()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.slow
def test_a_compiled_student_loses_the_same(teacher):
    model = distilled(DEIT, teacher)
    model.init_weights()
    images, samples = batch()
    expected = model.loss(images, samples)
    losses = torch.compile(model.loss, backend='eager')(images, samples)
    torch.testing.assert_close(losses, expected)


def test_token_expansion_shortens_the_student_and_not_the_teacher(teacher):
    model = distilled(DEIT, teacher)
    model.init_weights()
    hook = TokenExpansionHook(expansion_step=(0, 1, 2))
    hook.attach(model)
    hook.set_epoch(0)
    lengths = []
    last = model.backbone.layers[-1]
    last.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    losses = model.loss(*batch())
    assert lengths == [2 + 16 // 2]
    assert all(torch.isfinite(value) and value > 0 for value in losses.values())


@pytest.mark.parametrize(('input_size', 'side'), [(None, 8), (SIDE, SIDE)])
def test_with_a_curriculum_of_sizes_the_teacher_has_its_own_where_it_is_given(
    input_size, side, teacher
):
    model = distilled(
        DEIT, dict(teacher, input_size=input_size), data_preprocessor=dict(DIGITS, num_classes=3)
    )
    model.init_weights()
    hook = EfficientTrainHook(input_size=(8, SIDE), magnitude_level=None)
    hook.attach(model)
    hook.set_epoch(0)
    sizes = []
    for part in (model.backbone, model.teacher._classifier.backbone):
        part.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))
    images, samples = batch()
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    losses = model.loss(**data)
    assert sizes == [side, 8]
    assert all(torch.isfinite(value) and value > 0 for value in losses.values())


# Inputs of the teacher


class Seen(torch.nn.Module):
    """A classifier that keeps the images that it is given."""

    def __init__(self, data_preprocessor=None):
        super().__init__()
        settings = dict(data_preprocessor or {}, type='ClsDataPreprocessor')
        self.data_preprocessor = MODELS.build(settings)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images, mode):
        self.images = images
        return images.new_zeros(len(images), CLASSES)


def what_is_seen(images, student, teacher, training=False, **settings):
    """Return the teacher's input for images that the student's preprocessor has normalised."""
    frozen = FrozenTeacher(data_preprocessor=teacher, **settings)
    frozen._classifier, frozen._normalises = Seen(teacher), teacher is not None
    student = MODELS.build(dict(student, type='ClsDataPreprocessor'))
    samples = [DataSample().set_gt_label(0) for _ in images]
    data = student(dict(inputs=images, data_samples=samples), training)
    frozen.logits(data['inputs'], student)
    return frozen._classifier.images, data['inputs']


IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
DIGITS = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=False)


@pytest.mark.parametrize('student', [IMAGENET, DIGITS, dict(to_rgb=True)])
@pytest.mark.parametrize('teacher', [IMAGENET, DIGITS, dict()])
def test_the_teacher_sees_what_its_own_preprocessor_makes_of_the_pixels(student, teacher):
    images, _ = batch()
    seen, _ = what_is_seen(images, student, teacher)
    own = MODELS.build(dict(teacher, type='ClsDataPreprocessor'))
    torch.testing.assert_close(seen, own(dict(inputs=images))['inputs'], rtol=1e-5, atol=1e-4)


def test_a_teacher_without_a_normalisation_sees_what_the_student_sees():
    seen, given = what_is_seen(batch()[0], IMAGENET, None)
    torch.testing.assert_close(seen, given)


def test_the_teacher_sees_the_mixed_images():
    student = dict(
        DIGITS,
        num_classes=CLASSES,
        batch_augments=dict(augments=[dict(type='Mixup', alpha=1.0)]),
    )
    images, _ = batch()
    seen, given = what_is_seen(images, student, DIGITS, training=True)
    assert (given - (images - 127.5) / 127.5).abs().max() > 0.1
    torch.testing.assert_close(seen, given, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('size', [24, 8, (24, 8)])
def test_the_teacher_sees_images_of_its_own_size(size):
    height, width = size if isinstance(size, tuple) else (size, size)
    images = torch.full((2, 3, SIDE, SIDE), 51.0)
    images[:, :, :, SIDE // 2 :] = 204.0
    seen, _ = what_is_seen(images, IMAGENET, dict(), input_size=size)
    assert seen.shape == (2, 3, height, width)
    assert seen[..., 0].mean() == pytest.approx(51, abs=2)
    assert seen[..., -1].mean() == pytest.approx(204, abs=2)


# Teachers of timm, and of config files


TIMM = 'test_resnet.r160_in1k'  # 0.5M parameters, at 160 x 160


@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
@pytest.mark.parametrize('by_name', [True, False])
def test_a_teacher_of_timm_gives_the_logits_of_timm(ending, by_name, tmp_path):
    torch.manual_seed(0)
    expected = timm.create_model(TIMM)
    expected.eval()
    path = str(tmp_path / f'teacher{ending}')
    if ending == '.pth':
        torch.save({'model': expected.state_dict()}, path)
    else:
        save_file(expected.state_dict(), path)
    model = TIMM if by_name else dict(type='TimmClassifier', model_name=TIMM)
    frozen = FrozenTeacher(model, path)
    frozen.prepare(1000)
    assert frozen.input_size == (160, 160)
    images, _ = batch(side=160)  # BGR
    mean, std = (torch.tensor(expected.pretrained_cfg[key]) for key in ('mean', 'std'))
    rgb = images.flip(1) / 255
    with torch.no_grad():
        wanted = expected((rgb - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    student = MODELS.build(dict(DIGITS, type='ClsDataPreprocessor'))
    logits = frozen.logits(student(dict(inputs=images))['inputs'], student)
    torch.testing.assert_close(logits, wanted, rtol=1e-3, atol=1e-4)


def test_the_teacher_is_regnety_160_by_default():
    with torch.device('meta'):
        frozen = FrozenTeacher()
        model = frozen.build()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert type(model.model).__name__ == 'RegNet'
    assert round(count / 1e6, 1) == 83.6
    assert frozen.input_size == (224, 224)
    assert model.data_preprocessor.to_rgb


def test_a_teacher_of_a_config_file_has_its_model_and_normalisation(tmp_path):
    (tmp_path / 'teacher.py').write_text(
        f'model = {TEACHER!r}\n'
        'data_preprocessor = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)\n'
    )
    model = FrozenTeacher(str(tmp_path / 'teacher.py')).build()
    assert model.data_preprocessor.mean.flatten().tolist() == [1, 2, 3]
    assert type(model.backbone).__name__ == 'ResNet'
    own = FrozenTeacher(str(tmp_path / 'teacher.py'), data_preprocessor=DIGITS).build()
    assert own.data_preprocessor.mean.flatten().tolist() == [127.5] * 3


def test_weights_come_from_the_checkpoint_and_are_never_downloaded():
    settings = dict(type='TimmClassifier', model_name=TIMM, num_classes=CLASSES, pretrained=True)
    assert FrozenTeacher(settings).build().model.num_classes == CLASSES


def test_a_distilled_model_teaches(teacher):
    model = distilled(
        'LION', dict(teacher, model=dict(TEACHER, type='mmvitlin.DistillationClassifier'))
    )
    model.init_weights()
    assert model.loss(*batch())['distillation_loss'] > 0


# Errors


def other_classes(teacher, tmp_path):
    head = dict(TEACHER['head'], num_classes=5)
    model = build(dict(TEACHER, head=head))
    torch.save(model.state_dict(), tmp_path / 'five.pth')
    return dict(model=dict(TEACHER, head=head), checkpoint=str(tmp_path / 'five.pth'))


def other_classes_of_vig(teacher, tmp_path):
    vig = next(model for name, model in STUDENTS.items() if 'ViG' in name)
    model = dict(vig, type='ImageClassifier', head=dict(vig['head'], num_classes=5))
    torch.save(build(model).state_dict(), tmp_path / 'vig.pth')
    return dict(model=model, checkpoint=str(tmp_path / 'vig.pth'))


def of_another_model(teacher, tmp_path):
    torch.save(build(classifier()).state_dict(), tmp_path / 'l2vit.pth')
    return dict(teacher, checkpoint=str(tmp_path / 'l2vit.pth'))


def of_another_width(teacher, tmp_path):
    backbone = dict(TEACHER['backbone'], base_channels=4)
    return dict(teacher, model=dict(TEACHER, backbone=backbone))


def damaged(teacher, tmp_path):
    path = tmp_path / 'half.pth'
    path.write_bytes((tmp_path / 'teacher.pth').read_bytes()[:5000])
    return dict(teacher, checkpoint=str(path))


def with_code(teacher, tmp_path):
    torch.save({'state_dict': {}, 'code': print}, tmp_path / 'code.pth')
    return dict(teacher, checkpoint=str(tmp_path / 'code.pth'))


def no_classifier(teacher, tmp_path):
    (tmp_path / 'schedule.py').write_text('train_cfg = dict(max_epochs=3)')
    return dict(teacher, model=str(tmp_path / 'schedule.py'))


ERRORS = {
    'no file': (lambda t, _: dict(t, checkpoint='no.pth'), 'no weights: there is no .* at no.pth'),
    'no checkpoint': (lambda t, _: dict(t, checkpoint=None), r'give teacher=dict\(checkpoint'),
    'other classes': (other_classes, 'has 5 classes and the student has 3'),
    'other classes, of ViG': (other_classes_of_vig, 'has 5 classes and the student has 3'),
    'another model': (of_another_model, r'l2vit\.pth is not a checkpoint of the teacher.*ResNet'),
    'another width': (of_another_width, 'is not a checkpoint of the teacher.*mismatched'),
    'a damaged file': (damaged, r'half\.pth is not a whole checkpoint'),
    'a file with code': (with_code, 'could run code'),
    'an unknown model': (lambda t, _: dict(t, model='regnety_161'), 'it has regnety_160'),
    'an unknown tag': (lambda t, _: dict(t, model='regnety_160.none'), 'no settings for'),
    'no config': (lambda t, _: dict(t, model='no/config.py'), 'no config .* at no/config.py'),
    'a config without a model': (no_classifier, r'schedule\.py is no config of a classifier'),
}


@pytest.mark.parametrize('begin', ['init_weights', 'loss'])
@pytest.mark.parametrize('case', ERRORS)
def test_what_is_wrong_with_a_teacher_is_named_when_training_starts(case, begin, teacher, tmp_path):
    change, message = ERRORS[case]
    model = distilled('LION', change(teacher, tmp_path))  # builds, so that it can be tested
    model.eval()
    model(batch()[0])
    with pytest.raises(TeacherError, match=message):
        model.init_weights() if begin == 'init_weights' else model.loss(*batch())


def test_timm_is_asked_for_by_its_own_models_alone(teacher, monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)  # as where it is not installed
    distilled('LION', teacher).init_weights()
    with pytest.raises(ImportError, match='pip install timm'):
        distilled('LION', dict(teacher, model=TIMM)).init_weights()


def test_a_truncated_safetensors_file_is_named(tmp_path):
    path = tmp_path / 'half.safetensors'
    path.write_bytes(b'\x10\x00\x00\x00\x00\x00\x00\x00{"half')
    with pytest.raises(CheckpointError, match='not a whole safetensors file'):
        FrozenTeacher(TIMM, str(path)).prepare(1000)


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        (dict(distillation='medium'), ValueError, "one of none, soft, hard, got 'medium'"),
        (dict(alpha=2.0), ValueError, 'from 0 to 1, got 2.0'),
        (dict(tau=-1.0), ValueError, 'above 0, got -1.0'),
        (dict(head=None), ValueError, 'needs a head .* got NoneType'),
        (dict(head=dict(type='ClsHead')), ValueError, 'needs a head .* got ClsHead'),
        (
            dict(data_preprocessor=ImgDataPreprocessor()),
            ValueError,
            'needs a ClsData.* got ImgData',
        ),
        (dict(teacher=dict(input_size=0)), ValueError, 'a height and a width .* got 0'),
        (dict(teacher=dict(input_size=[224])), ValueError, r'a height and a width .* got \[224\]'),
        (dict(teacher=dict(chekpoint='a.pth')), TypeError, 'chekpoint'),
        (dict(alhpa=0.5), TypeError, 'alhpa'),
    ],
)
def test_settings_are_checked_when_the_student_is_built(settings, error, message):
    cfg = dict(STUDENTS['LION'], type='mmvitlin.DistillationClassifier') | settings
    with pytest.raises(error, match=message):
        build(cfg)


def test_a_student_or_teacher_that_gives_no_logits_is_named(teacher, tmp_path):
    model = distilled('a head with a loss of its own', teacher)
    model.head.forward = lambda feats: [feats[-1]] * 2
    model.head.loss = lambda feats, samples: dict(loss=feats[-1].mean())
    with pytest.raises(ValueError, match=r'Distil.* with ArcFaceClsHead returns a list'):
        model.loss(*batch())
    headless = dict(TEACHER, head=None)
    torch.save(build(headless).state_dict(), tmp_path / 'headless.pth')
    path = str(tmp_path / 'headless.pth')
    with pytest.raises(ValueError, match='ImageClassifier with NoneType returns a tuple'):
        distilled('LION', dict(model=headless, checkpoint=path)).loss(*batch())
