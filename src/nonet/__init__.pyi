from typing import Final

from nonet.artifacts.run import Run as Run
from nonet.calibration.calibrate import calibrate as calibrate
from nonet.data.build import build_dataset as build_dataset
from nonet.data.manifest import Dataset as Dataset
from nonet.data.sources.catalogue import describe_source as describe_source
from nonet.data.sources.catalogue import list_sources as list_sources
from nonet.data.sources.fetch import fetch_source as fetch_source
from nonet.data.verify import check_dataset as check_dataset
from nonet.demonstration import demo as demo
from nonet.diagnostics import doctor as doctor
from nonet.differential.compare import compare as compare
from nonet.differential.count import count as count
from nonet.errors import NonetError as NonetError
from nonet.evaluation.across_runs import table as table
from nonet.evaluation.label_issues import find_label_issues as find_label_issues
from nonet.evaluation.score import score as score
from nonet.inference.ensemble import Ensemble as Ensemble
from nonet.inference.load import load as load
from nonet.inference.predict import predict as predict
from nonet.inference.predict_shard import predict_shard as predict_shard
from nonet.inference.predict_shards import predict_shards as predict_shards
from nonet.inference.sharding import shard_images as shard_images
from nonet.models.listing import list_backbones as list_backbones
from nonet.recipe import Recipe as Recipe
from nonet.recipe import list_recipes as list_recipes
from nonet.recipe import load_recipe as load_recipe
from nonet.report.evaluate import evaluate as evaluate
from nonet.report.issues import issues as issues
from nonet.review.backup import backup as backup
from nonet.review.serve import serve as serve
from nonet.review.users import add_user as add_user
from nonet.review.users import list_users as list_users
from nonet.review.users import make_token as make_token
from nonet.review.users import remove_user as remove_user
from nonet.review.users import revoke_token as revoke_token
from nonet.review.users import set_password as set_password
from nonet.review.users import set_role as set_role
from nonet.robustness import evaluate_robustness as evaluate_robustness
from nonet.synthetic.dataset import draw_dataset as draw_dataset
from nonet.training.launch import train as train

__version__: Final[str]
HOMES: Final[dict[str, str]]
__all__: list[str]
