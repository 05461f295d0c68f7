// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

/// @title Did anything happen? Counts over all runs of an invariant campaign
/// @notice Calls of a handler may fail, so an invariant could hold because every call of some kind does. State ends with a
/// run; the sums are kept in the environment of the process, and the last run judges them.
/// @dev One campaign per name, with `runs` fixed by an inline configuration. Forge runs a campaign on one thread.
abstract contract Campaign is Test {
    /// @notice Adds what this run did. After the last run, none of the sums may be zero.
    /// @param counts How often each of `actions` succeeded in this run.
    function _conclude(string memory campaign, uint256 runs, string[] memory actions, uint256[] memory counts)
        internal
    {
        bool last = _add(campaign, "runs", 1) == runs;
        for (uint256 i; i < actions.length; ++i) {
            uint256 sum = _add(campaign, actions[i], counts[i]);
            if (last) assertGt(sum, 0, string.concat(campaign, ": never succeeded: ", actions[i]));
        }
    }

    function _add(string memory campaign, string memory what, uint256 more) private returns (uint256 sum) {
        string memory name = string.concat("STKR_TEST_CAMPAIGN_", campaign, "_", what);
        sum = vm.envOr(name, uint256(0)) + more;
        vm.setEnv(name, vm.toString(sum));
    }
}
