"""Every command of README.md and the documents is run by a test, or listed with what it lacks."""

import re

import pytest
from test_links import DOCUMENTS, commands, text_of
from tiny_run import ROOT

TOOLS = 'tests/test_tools/test_'
# Command -> the test that runs it: same tool and kind of config, on small data or for few steps.
TESTED = {
    r'python tools/train\.py configs/quickstart/(l2vit|vit)-micro_1xb64\S+': (
        f'{TOOLS}train_and_test.py::test_testing_prints_the_accuracy_of_the_training_log'
    ),
    r'python tools/train\.py configs/quickstart/\S+_digit-scenes\.py': (
        f'{TOOLS}scene_quickstarts.py::test_our_train_py_runs_a_quickstart_and_validates'
    ),
    r'python tools/train\.py configs/quickstart/td-hm_\S+': (
        f'{TOOLS}pose_quickstart.py::test_training_and_testing_print_the_same_pck'
    ),
    r'python tools/train\.py configs/quickstart/(mae|simmim)_\S+': (
        'tests/test_reduced_configs.py::test_a_config_trains_two_iterations'
    ),
    r'python tools/train\.py configs/quickstart/lion\S+ .* load_from=\S+': (
        'tests/test_selfsup_configs.py::'
        'test_a_pre_trained_encoder_has_all_weights_of_the_classifiers_backbone'
    ),
    r'python tools/train\.py configs/quickstart/\S+_distilled_\S+': (
        f'{TOOLS}distillation_runs.py::test_training_resumes_bit_for_bit'
    ),
    r'python tools/train\.py configs/quickstart/lvvit\S+': (
        f'{TOOLS}lvvit_runs.py::test_the_test_tool_finds_the_accuracy_of_the_log'
    ),
    r'python tools/train\.py configs/quickstart/(vit-llama-micro_1|vit-micro_(toe|efftrain))\S+': (
        'tests/test_reduced_configs.py::test_a_config_trains_two_iterations'
    ),
    r'tools/dist_train\.sh configs/quickstart/\S+ 2': (
        f'{TOOLS}scene_quickstarts.py::test_two_processes_train_a_detector_on_a_cpu'
    ),
    r'python tools/test\.py configs/quickstart/\S+ \S+': (
        f'{TOOLS}train_and_test.py::test_testing_prints_the_accuracy_of_the_training_log'
    ),
    r'tools/dist_test\.sh configs/quickstart/\S+ \S+ 2': (
        f'{TOOLS}train_and_test.py::test_two_processes_test_as_one_does'
    ),
    r'GPUS=16 tools/slurm_train\.sh .*': (
        f'{TOOLS}train_and_test.py::test_slurm_tools_ask_srun_for_the_job'
    ),
    r'python tools/new_config\.py cls FOLDER': f'{TOOLS}new_config.py::test_class_folders',
    r'python tools/new_config\.py det .*': f'{TOOLS}new_config.py::test_a_coco_file_with_masks',
    r'python tools/new_config\.py seg .*': f'{TOOLS}new_config.py::test_masks',
    r'python tools/(train|test|export)\.py own_configs/.*': (
        f'{TOOLS}new_config.py::test_class_folders'
    ),
    r'python tools/predict\.py .*': f'{TOOLS}new_config.py::test_class_folders',
    r'python tools/analysis_tools/report\.py .*': f'{TOOLS}new_config.py::test_class_folders',
    r'python tools/export\.py configs/quickstart/.*': (
        f'{TOOLS}export.py::test_a_classifier_becomes_onnx_with_its_description_and_an_int8_file'
    ),
    r'python tools/analysis_tools/visualize_lion\.py .*': (
        f'{TOOLS}visualize_lion.py::test_selected_decays_of_an_image_are_printed_as_quantiles'
    ),
    r'python tools/analysis_tools/visualize_attention\.py .*': (
        f'{TOOLS}visualize_attention.py::test_every_backbone_is_drawn'
    ),
    r'python tools/analysis_tools/visualize_token_expansion\.py configs/quickstart/.*': (
        f'{TOOLS}token_expansion_tools.py::test_digits_are_drawn_by_the_weights_of_a_checkpoint'
    ),
    r'python tools/analysis_tools/visualize_token_expansion\.py configs/toe/.*': (
        f'{TOOLS}token_expansion_tools.py::test_image_files_go_through_the_test_pipeline'
    ),
    r'python tools/analysis_tools/plan_token_expansion\.py configs/toe/.*': (
        f'{TOOLS}token_expansion_tools.py::test_the_plan_of_deit_small'
    ),
    r'python tools/analysis_tools/plan_token_expansion\.py configs/lvvit/.*': (
        f'{TOOLS}token_expansion_tools.py::test_lv_vit_is_planned_with_its_rates'
    ),
    r'python tools/analysis_tools/plan_token_expansion\.py configs/efficient_train/.*': (
        f'{TOOLS}token_expansion_tools.py::test_the_plan_of_deit_small_with_efficient_train'
    ),
    r'python tools/analysis_tools/get_flops\.py .*': (
        f'{TOOLS}get_flops.py::test_the_whole_model_of_every_host_is_counted'
    ),
    r'python tools/generate_token_labels\.py .*': (
        f'{TOOLS}generate_token_labels.py::test_a_dataset_reads_the_teachers_labels'
    ),
    r'tools/dist_generate_token_labels\.sh .*': (
        f'{TOOLS}generate_token_labels.py::test_a_killed_run_goes_on_in_two_processes_to_the_same_files'
    ),
    r'python tools/extract_llama_block\.py .*': (
        f'{TOOLS}extract_llama_block.py::test_the_last_layer_is_taken_as_it_is'
    ),
    r'python tools/convert_checkpoint\.py (l2vit|lion) \S+ \S+': (
        f'{TOOLS}convert_checkpoint.py::test_a_converted_checkpoint_gives_the_originals_logits'
    ),
    r'python tools/convert_checkpoint\.py l2vit .* --class-index .*': (
        f'{TOOLS}convert_checkpoint.py::test_the_head_of_22k_classes_becomes_one_of_1000'
    ),
    **{
        rf'python tools/convert_checkpoint\.py {system} .*': (
            f'{TOOLS}convert_{name}.py::test_a_converted_checkpoint_gives_the_originals_logits'
        )
        for system, name in {
            'vit-llama': 'vit_llama',
            'lvvit': 'lvvit',
            'deit': 'deit',
            'yolos': 'yolos',
        }.items()
    },
    r'python benchmarks/benchmark\.py .*': (
        'tests/test_benchmarks.py::test_a_run_writes_and_prints_complete_reports'
    ),
    r'python docs/tutorials/\w+\.py': 'tests/site/test_tutorials.py::test_a_tutorial_runs',
    r'mim (search|train|test|run) mmvitlin .*': 'tests/clean_room/in_the_room.py::check_mim',
    r'pip install .*': 'tests/clean_room/clean_room.py::main',
}
# Command -> what a test lacks to run it as it stands. Every recipe trains two iterations at reduced
# size in tests/test_reduced_configs.py; some train at full size on a few images in
# tests/test_tools/test_full_size_configs.py.
LACKS = {
    r'make demo(-det|-seg)?': 'minutes: it trains; test_demo.py draws its pictures',
    r'make test': 'nothing: it runs the tests',
    r'TOOLS=.*|python \$TOOLS/visualization/vis_cam\.py .*': 'grad-cam, and a trained checkpoint',
    r'make test-stack .*': 'other versions of torch and the hosts, from the network',
    r'PYTHONPATH=EXTRAS python tests/upstream_tools\.py --docs': "packages of the hosts' tools",
    r'make benchmark': '15 minutes of a quiet machine',
    r'tools/dist_(train|test)\.sh configs/(l2vit|lion|lvvit|toe|distill|efficient_train|selfsup)/'
    r'\S+_in(1k|21k)(-384px)?\.py .*': 'ImageNet',
    r'tools/dist_(train|test)\.sh configs/vit_llama/\S+ .*': 'ImageNet and LLaMA',
    r'tools/dist_(train|test)\.sh configs/(l2vit|lion|yolos)/\S+_coco\.py .*': 'COCO',
    r'tools/dist_(train|test)\.sh configs/\w+/\S+_ade20k-512x512\.py .*': 'ADE20K',
    r'tools/dist_test\.sh configs/robustness/.*': 'ImageNet-A and -C, and a checkpoint',
    r'python tools/train\.py .* visualizer\S+=TensorboardVisBackend': 'tensorboard',
    r'python tools/train\.py .* visualizer\S+=WandbVisBackend': 'wandb',
}


def found() -> dict[str, str]:
    """Commands of all documents, without comments -> the first document that has it."""
    first: dict[str, str] = {}
    for document in DOCUMENTS:
        for command in commands(text_of(document)):
            first.setdefault(' '.join(command.split(' #')[0].split()), document)
    return first


COMMANDS = found()


def test_every_command_is_run_or_listed_with_what_it_lacks():
    rows = [*TESTED, *LACKS]
    matching = {c: [row for row in rows if re.fullmatch(row, c)] for c in COMMANDS}
    unlisted = [f'{COMMANDS[c]}: {c}' for c, found in matching.items() if len(found) != 1]
    assert unlisted == []
    used = {row for found in matching.values() for row in found}
    assert [row for row in rows if row not in used] == []


@pytest.mark.parametrize('test', sorted(set(TESTED.values())))
def test_the_tests_that_run_commands_are_there(test):
    path, _, name = test.partition('::')
    assert re.search(rf'^def {name}\(', (ROOT / path).read_text(), re.MULTILINE)
